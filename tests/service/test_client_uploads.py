"""The client sends in parts against the real service: once whole, once broken off, blocking and awaited."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from spice_select.cli import main
from spice_select.client import AsyncClient, Client
from spice_select.errors import ConnectionFailedError
from tests.fixtures.service import InProcessService, jsonl, sums

DATA = jsonl(sums(200))
PART = 4096
PARTS = -(-len(DATA) // PART)


class Failing(httpx.BaseTransport):
    """A network that dies for good at a request, before or after the service has seen it."""

    def __init__(self, at: int, *, seen: bool) -> None:
        self.inner = httpx.HTTPTransport()
        self.left, self.seen = at, seen
        self.sent: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.left -= 1
        if self.left < 0:
            if self.left == -1 and self.seen:
                self.inner.handle_request(request).read()
            raise httpx.ReadError("the network is gone", request=request)
        self.sent.append(f"{request.method} {request.url.path}")
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


def puts(transport: Failing) -> int:
    return sum(line.startswith("PUT") for line in transport.sent)


@pytest.mark.parametrize(
    ("at", "seen"), [(0, False), (1, True), (3, False), (3, True), (2 + PARTS, False), (2 + PARTS, True)]
)
def test_a_later_call_goes_on_where_an_earlier_one_broke_off(
    service: InProcessService, tmp_path: Path, at: int, seen: bool
) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(DATA)
    url = str(service.http.base_url)
    about: dict[str, Any] = {"in_parts": True, "part_bytes": PART, "metadata": {"a": "b"}, "format": "alpaca"}
    first = Failing(at, seen=seen)
    with Client(url, transport=first, retries=0) as client, pytest.raises(ConnectionFailedError):
        client.datasets.push(path, **about)
    second = Failing(10**6, seen=False)
    told: list[tuple[int, int]] = []
    with Client(url, transport=second) as client:
        made = client.datasets.push(path, on_bytes=lambda done, total: told.append((done, total)), **about)
        assert made.digest is not None
        assert made.digest.sha256 == hashlib.sha256(DATA).hexdigest()
        # The part whose answer was lost had arrived; a completed upload is not gone on with, it makes its data set.
        arrived = puts(first) + (1 if seen and 2 <= at < 2 + PARTS else 0)
        if not (seen and at == 2 + PARTS):
            assert puts(second) == PARTS - arrived
        assert told[-1] == (len(DATA), len(DATA))
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert (made.name, made.metadata) == ("pool.jsonl", {"a": "b"})


def test_an_upload_with_other_settings_is_not_gone_on_with(service: InProcessService) -> None:
    url = str(service.http.base_url)
    broken = Failing(4, seen=False)
    with Client(url, transport=broken, retries=0) as client, pytest.raises(ConnectionFailedError):
        client.datasets.push(DATA, name="one", in_parts=True, part_bytes=PART)
    whole = Failing(10**6, seen=False)
    with Client(url, transport=whole) as client:
        client.datasets.push(DATA, name="other", in_parts=True, part_bytes=PART)
    assert puts(whole) == PARTS


def test_the_awaited_client_sends_in_parts_and_small_files_go_whole(service: InProcessService) -> None:
    async def push() -> tuple[str, str]:
        async with AsyncClient(str(service.http.base_url)) as client:
            parts = await client.datasets.push(DATA, in_parts=True, part_bytes=PART)
            whole = await client.datasets.push(DATA)
            assert parts.digest == whole.digest
            return parts.id, whole.id

    assert len(set(asyncio.run(push()))) == 2
    assert service.http.get("/v1/datasets/uploads").json()["data"] == []


def test_the_command_sends_a_large_file_in_parts_and_says_how_far_it_is(
    service: InProcessService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPICE_API_URL", str(service.http.base_url))
    monkeypatch.setattr("spice_select.client._sync.datasets.PARTS_ABOVE_BYTES", 10)
    path = tmp_path / "pool.jsonl"
    path.write_bytes(DATA)
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "push", str(path), "--no-wait"])
    assert ended.value.code == 0
    assert "sending" in capsys.readouterr().err
    assert len(service.http.get("/v1/datasets").json()["data"]) == 1


def test_ctrl_c_while_sending_ends_with_130_and_the_same_command_goes_on(
    service: InProcessService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPICE_API_URL", str(service.http.base_url))
    monkeypatch.setattr("spice_select.client._sync.datasets.PARTS_ABOVE_BYTES", 10)
    path = tmp_path / "pool.jsonl"
    path.write_bytes(DATA)
    complete = httpx.Client.stream

    def interrupted(self: httpx.Client, method: str, url: str, **kwargs: Any) -> Any:
        if str(url).endswith("/complete"):
            raise KeyboardInterrupt
        return complete(self, method, url, **kwargs)

    monkeypatch.setattr(httpx.Client, "stream", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "push", str(path), "--no-wait"])
    assert ended.value.code == 130
    assert "the same command continues from there" in capsys.readouterr().err
    monkeypatch.setattr(httpx.Client, "stream", complete)
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "push", str(path), "--no-wait", "--json"])
    assert ended.value.code == 0
    assert service.http.get("/v1/datasets/uploads").json()["data"] == []
