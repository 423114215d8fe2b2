"""Settings on the page: quotas, history, keys and webhooks, and who may see and change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import Events
from tests.fixtures.hooked import Hooked, until
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.service.test_statements import counted

ATTACK = "<script>alert('x')</script>"
MOST_STATEMENTS = {"/ui/settings": 3, "/ui/api-keys": 1, "/ui/webhook-endpoints": 1}


class Page:
    """The page as a browser sends its forms."""

    def __init__(self, service: InProcessService, secret: str | None = None) -> None:
        self.base = f"http://127.0.0.1:{service.port}"
        self.headers = {"Origin": self.base}
        if secret is not None:
            self.headers["Authorization"] = f"Bearer {secret}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.base + path, headers=self.headers, trust_env=False, timeout=120)

    def post(self, path: str, *, json: Any = None, files: Any = None, **fields: Any) -> httpx.Response:
        given: dict[str, Any] = {"json": json} if json is not None else {"data": fields, "files": files}
        return httpx.post(self.base + path, headers=self.headers, trust_env=False, timeout=120, **given)

    def put(self, path: str, content: bytes) -> httpx.Response:
        return httpx.put(self.base + path, headers=self.headers, content=content, trust_env=False, timeout=120)


@pytest.fixture
def keyed(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[InProcessService, str]]:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    _, secret = service.app.state.services.keys.create(DEFAULT_PROJECT, "first", ["admin"])
    with service:
        yield service, secret


def secret_in(answer: httpx.Response) -> str:
    assert answer.headers["cache-control"] == "private, no-store"
    found = re.search(r'id="secret">([^<]+)<', answer.text)
    assert found is not None, answer.text
    return unescape(found[1])


def errors_in(text: str, field: str) -> str:
    """What is said beside a field."""
    return " ".join(re.findall(rf'id="error-{field}-\d+">([^<]*)<', text))


def test_the_project_is_shown_with_quotas_and_history_newest_first(service: InProcessService) -> None:
    page = Page(service)
    dataset = service.push(jsonl(sums(9)))["id"]
    text = page.get("/ui/settings").text
    quota = service.http.get("/v1/quota").json()["datasets"]
    assert (quota["used"], f'<td class="num" data-label="Allowed">{quota["allowed"]:,}</td>' in text) == (1, True)
    assert text.index("dataset.ready") < text.index("dataset.validating"), "newest first"
    assert f'href="/ui/datasets/{dataset}"' in text
    for _ in range(60):
        with service.runner.database.write() as session:
            Events(session).append(DEFAULT_PROJECT, "job.queued")
    seen, address = [], "/ui/settings"
    while address:
        text = page.get(address).text
        seen += re.findall(r"<code>((?:job|dataset)\.\w+)</code>", text)
        following = re.search(r'rel="next" href="([^"#]+)#history"', text)
        address = unescape(following[1]) if following else ""
    assert seen.count("job.queued") == 60
    assert len(seen) == 62, "every event once, over all pages"
    assert page.get("/ui/settings?before=1").status_code == 200
    assert page.get("/ui/settings?before=0").status_code == 422


def test_a_key_is_made_used_rotated_and_revoked(keyed: tuple[InProcessService, str]) -> None:
    service, admin = keyed
    page = Page(service, admin)
    made = page.post("/ui/api-keys", name=ATTACK, scopes=["jobs:read", "datasets:read"], expires_in_days="2.5")
    assert made.status_code == 200
    assert "<script>" not in made.text
    secret = secret_in(made)
    key = next(each for each in page.get("/v1/api-keys").json()["data"] if each["name"] == ATTACK)
    assert key["scopes"] == ["datasets:read", "jobs:read"]
    assert key["expires_at"] is not None
    limited = Page(service, secret)
    assert limited.get("/v1/jobs").status_code == 200
    assert secret not in page.get("/ui/api-keys").text, "it is shown once"
    at = f"/ui/api-keys/{key['id']}"
    refused = page.post(f"{at}/rotate", overlap_hours="soon")
    assert (refused.status_code, "not a number" in errors_in(refused.text, "overlap_hours")) == (422, True)
    second = secret_in(page.post(f"{at}/rotate", overlap_hours="0"))
    assert limited.get("/v1/jobs").status_code == 401
    other = next(each for each in page.get("/v1/api-keys").json()["data"] if each["revoked_at"] is None)
    assert Page(service, second).get("/v1/jobs").status_code == 200
    assert page.post(f"/ui/api-keys/{other['id']}/revoke").status_code == 200
    assert Page(service, second).get("/v1/jobs").status_code == 401
    assert page.get("/ui/api-keys").text.count(">Revoked<") == 2


def test_what_is_wrong_with_a_key_stands_at_its_field_in_words(service: InProcessService) -> None:
    page = Page(service)
    answer = page.post("/ui/api-keys", name=" ", expires_in_days="-3")
    assert answer.status_code == 422
    assert errors_in(answer.text, "name") == "This is needed"
    assert errors_in(answer.text, "scopes") == "Choose at least one"
    assert errors_in(answer.text, "expires_in_days") == "This should be greater than 0"
    assert 'value="-3"' in answer.text, "what was typed stays"
    odd = page.post("/ui/api-keys", name="a\x07b", scopes=["root"], expires_in_days="1e400")
    assert errors_in(odd.text, "name") == "Control characters are not allowed"
    assert "is not a number" in unescape(errors_in(odd.text, "expires_in_days"))
    assert "this should be" in errors_in(odd.text, "scopes").lower()
    assert service.http.get("/v1/api-keys").json()["data"] == []
    for verb in ("rotate", "revoke"):
        assert page.post(f"/ui/api-keys/key_nothing/{verb}", overlap_hours="1").status_code == 404


def test_a_key_shows_only_the_settings_it_may(keyed: tuple[InProcessService, str]) -> None:
    service, admin = keyed
    keys = service.app.state.services.keys
    limited = Page(service, keys.create(DEFAULT_PROJECT, "reader", ["jobs:read"])[1])
    shown = limited.get("/ui/settings")
    assert shown.status_code == 200
    assert 'href="/ui/api-keys"' not in shown.text
    assert 'href="/ui/webhook-endpoints"' not in shown.text
    for path in ("/ui/api-keys", "/ui/webhook-endpoints"):
        assert limited.get(path).status_code == 403
        assert limited.post(path, name="x", scopes="admin").status_code == 403
    watcher = Page(service, keys.create(DEFAULT_PROJECT, "watcher", ["webhooks:read"])[1])
    assert "A new webhook" not in watcher.get("/ui/webhook-endpoints").text
    # Another project sees nothing of it, and a form that another site sent is refused.
    theirs = keys.create_project("theirs").id
    stranger = Page(service, keys.create(theirs, "theirs", ["admin"])[1])
    assert "reader" not in stranger.get("/ui/api-keys").text
    first = next(each for each in Page(service, admin).get("/v1/api-keys").json()["data"] if each["name"] == "reader")
    assert stranger.post(f"/ui/api-keys/{first['id']}/revoke").status_code == 404
    stranger.headers["Origin"] = "https://elsewhere.example"
    assert stranger.post("/ui/api-keys", name="x", scopes="admin").status_code == 403


def test_a_webhook_is_made_tested_paused_changed_and_deleted(hooked: Hooked) -> None:
    page = Page(hooked.service)
    bad = page.post("/ui/webhook-endpoints", url="ftp://x", name="n")
    assert bad.status_code == 422
    assert errors_in(bad.text, "event_types") == "Choose at least one"
    bad = page.post("/ui/webhook-endpoints", url="ftp://x", name="n", event_types="job.succeeded")
    assert "https" in errors_in(bad.text, "url")
    fields = {"url": hooked.url, "name": ATTACK, "event_types": ["job.succeeded", "job.failed"], "once": "page_1"}
    made = page.post("/ui/webhook-endpoints", **fields)
    assert "<script>" not in made.text
    assert secret_in(made).startswith("whsec_")
    assert page.post("/ui/webhook-endpoints", **fields).status_code == 200
    (endpoint,) = page.get("/v1/webhook-endpoints").json()["data"]
    at = f"/ui/webhook-endpoints/{endpoint['id']}"
    with hooked.sender():
        assert page.post(f"{at}/ping").headers["location"] == f"{at}#deliveries"
        until(lambda: hooked.deliveries(endpoint, state="delivered"), "the test message did not arrive")
    shown = page.get(at).text
    assert "webhook.ping" in shown
    assert "<script>" not in shown
    delivery = hooked.deliveries(endpoint)[0]
    assert page.post(f"{at}/pause").status_code == 303
    assert "paused here" in page.get(at).text
    assert page.post(f"{at}/ping").status_code == 409
    assert page.post(f"{at}/resume").status_code == 303
    assert page.post(f"{at}/deliveries/{delivery['id']}/redeliver").status_code == 303
    changed = page.post(f"{at}/edit", url=hooked.url, name="", event_types="job.failed")
    assert changed.status_code == 303
    now = page.get(f"/v1/webhook-endpoints/{endpoint['id']}").json()
    assert (now["name"], now["event_types"]) == (None, ["job.failed"])
    wrong = page.post(f"{at}/edit", url="", name="", event_types="job.nothing")
    assert (wrong.status_code, errors_in(wrong.text, "url")) == (422, "This is needed")
    assert secret_in(page.post(f"{at}/rotate-secret", overlap_hours="1")) != secret_in(made)
    assert page.post(f"{at}/delete").headers["location"] == "/ui/webhook-endpoints"
    assert page.get(at).status_code == 404


@pytest.mark.parametrize("path", list(MOST_STATEMENTS))
def test_settings_cost_few_statements(service: InProcessService, path: str) -> None:
    for number in range(5):
        service.app.state.services.keys.create(DEFAULT_PROJECT, f"key {number}")
    with counted(service) as seen:
        assert service.http.get(path).status_code == 200
    assert len([one for one in seen if not one.startswith("BEGIN")]) <= MOST_STATEMENTS[path], "\n".join(seen)
