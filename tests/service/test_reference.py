"""``/docs``: works without any other host."""

from __future__ import annotations

import re

from tests.fixtures.service import InProcessService


def test_the_reference_loads_nothing_from_elsewhere(service: InProcessService) -> None:
    page = service.http.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    loaded = re.findall(r"""(?:src|href)="([^"]+)\"""", page.text)
    assert len(loaded) == 5
    for address in loaded:
        assert address.startswith("/"), address
        assert service.http.get(address).status_code == 200, address
    assert not re.search(r"<script>|\son\w+=", page.text), "no inline script, which the policy would stop"
    assert service.http.get("/redoc").status_code == 404
    assert service.http.head("/docs").status_code == 200
