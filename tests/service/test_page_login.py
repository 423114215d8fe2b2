"""Coming to the page where keys are asked for: sessions, and whom they do not let in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest

from app.ids import DEFAULT_PROJECT
from app.services.access import sessions
from app.services.access.sessions import FILE, Sessions
from tests.fixtures.service import InProcessService, jsonl, sums

PAGES = ("/ui", "/ui/new", "/ui/jobs/job_0", "/ui/jobs/job_0/live", "/ui/jobs/job_0/plots", "/ui/jobs/job_0/files/x")


@dataclass
class Locked:
    service: InProcessService
    secret: str
    key_id: str

    def get(self, path: str, cookie: str | None = None, **headers: str) -> httpx.Response:
        if cookie is not None:
            headers["Cookie"] = f"spice_session={cookie}"
        return httpx.get(f"http://127.0.0.1:{self.service.port}{path}", headers=headers, trust_env=False)

    def login(self, key: str, next: str = "/ui", origin: str | None = None) -> httpx.Response:
        base = f"http://127.0.0.1:{self.service.port}"
        headers = {"Origin": origin or base}
        return httpx.post(f"{base}/ui/login", data={"key": key, "next": next}, headers=headers, trust_env=False)

    def session(self) -> str:
        return SimpleCookie(self.login(self.secret).headers["set-cookie"])["spice_session"].value


@pytest.fixture
def locked(sqlite_url: str, tmp_path: Path) -> Iterator[Locked]:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    key, secret = service.app.state.services.keys.create(DEFAULT_PROJECT, "first")
    with service:
        yield Locked(service, secret, key.id)


def test_without_a_key_every_page_leads_to_the_login(locked: Locked) -> None:
    for path in PAGES:
        answer = locked.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/ui/login?next=%2Fui")
        # What a script asked for becomes no page, and no window of the browser's own.
        refused = locked.get(path, **{"HX-Request": "true"})
        assert refused.status_code == 401
        assert "Basic" not in refused.headers["www-authenticate"]
    assert locked.get("/ui/login").status_code == 200
    assert locked.get("/ui/static/page.css").status_code == 200


def test_a_key_opens_a_session_that_holds_no_key(locked: Locked) -> None:
    answer = locked.login(locked.secret, next="/ui/new?like=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/new?like=x")
    cookie = SimpleCookie(answer.headers["set-cookie"])["spice_session"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/ui")
    assert locked.secret not in cookie.value
    shown = locked.get("/ui", cookie.value)
    assert shown.status_code == 200
    assert "Log out" in shown.text
    # The session is the page's alone: the API does not know it.
    assert locked.get("/v1/jobs", cookie.value).status_code == 401


def test_a_wrong_key_is_told_so(locked: Locked) -> None:
    last = "y" if locked.secret.endswith("x") else "x"
    for wrong in ("", "nonsense", locked.secret[:-1] + last, "\N{SNOWMAN}"):
        answer = locked.login(wrong)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "not known, expired or revoked" in answer.text


def test_a_login_leads_nowhere_else(locked: Locked) -> None:
    for elsewhere in (
        "https://evil.example",
        "//evil.example",
        "/ui\\@evil.example",
        "/uix",
        "/ui/\r\nX: y",
        "javascript:1",
    ):
        assert locked.login(locked.secret, next=elsewhere).headers["location"] == "/ui"
    assert locked.login(locked.secret, origin="https://evil.example").status_code == 403


def test_forged_and_altered_sessions_open_nothing(locked: Locked, tmp_path: Path) -> None:
    good = locked.session()
    session_id, key_id, until, signature = good.split(".")
    other = Sessions(locked.service.app.state.services.keys, tmp_path / "elsewhere").begin(locked.secret)
    assert other is not None
    later = f"{session_id}.{key_id}.{int(until) + 1}.{signature}"
    renamed = f"ses_0.{key_id}.{until}.{signature}"
    for forged in (
        "",
        "..",
        "...",
        good[:-1],
        good + "0",
        later,
        renamed,
        f"{session_id}.key_0.{until}.{signature}",
        other,
    ):
        assert locked.get("/ui", forged).status_code == 303, forged
    assert locked.get("/ui", good).status_code == 200


def test_a_session_ends_with_its_key_and_with_its_time(locked: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    good = locked.session()
    real = time.time
    monkeypatch.setattr(sessions.time, "time", lambda: real() + sessions.SECONDS + 1)
    assert locked.get("/ui", good).status_code == 303
    monkeypatch.undo()
    assert locked.get("/ui", good).status_code == 200
    locked.service.app.state.services.keys.revoke(DEFAULT_PROJECT, locked.key_id)
    assert locked.get("/ui", good).status_code == 303


def test_a_session_sees_its_own_project_and_does_what_its_key_may(locked: Locked) -> None:
    service, keys = locked.service, locked.service.app.state.services.keys
    mine = {"Authorization": f"Bearer {locked.secret}"}
    sent = service.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(9)))}, headers=mine).json()
    service.drain()
    body = {"dataset_id": sent["id"], "budget": {"count": 2}, "gradients": {"sketch_dim": 4}}
    job = service.http.post("/v1/jobs", json=body, headers=mine).json()
    service.drain()
    other = keys.create(keys.create_project("other").id, "other")[1]
    reader = keys.create(DEFAULT_PROJECT, "reader", ["jobs:read"])[1]
    words = {
        name: Sessions(keys, service.settings.data_dir).begin(secret)
        for name, secret in {"mine": locked.secret, "other": other, "reader": reader}.items()
    }
    for path in ("", "/live", "/plots", "/files/selected.jsonl"):
        address = f"/ui/jobs/{job['id']}{path}"
        assert locked.get(address, words["mine"]).status_code == 200
        assert locked.get(address, words["other"]).status_code == 404
    assert locked.get(f"/ui/jobs/{job['id']}/files/selected.jsonl", words["reader"]).status_code == 403
    assert locked.get("/ui/datasets", words["reader"]).status_code == 403
    assert "/ui/datasets" not in locked.get("/ui", words["reader"]).text
    assert sent["id"][-8:] in locked.get("/ui/datasets", words["mine"]).text
    assert sent["id"][-8:] not in locked.get("/ui/datasets", words["other"]).text
    listed, shown = (locked.get(path, words["reader"]).text for path in ("/ui", f"/ui/jobs/{job['id']}"))
    assert job["id"] in listed
    assert "How the selection went" in shown
    for part in ("a.jsonl", "With the words", "The sum is", "selected.jsonl"):
        assert part not in listed + shown, part
        assert part in locked.get(f"/ui/jobs/{job['id']}", words["mine"]).text
    assert job["id"] not in locked.get("/ui", words["other"]).text


def test_a_link_of_another_site_still_finds_the_session(locked: Locked) -> None:
    """The browser keeps a strict cookie back there; asking again from our own page brings it."""
    crossed = locked.get("/ui", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert crossed.status_code == 200
    assert 'http-equiv="refresh"' in crossed.text
    assert "<script" not in crossed.text


def test_leaving_takes_the_cookie_away(locked: Locked) -> None:
    base = f"http://127.0.0.1:{locked.service.port}"
    answer = httpx.post(f"{base}/ui/logout", headers={"Origin": base}, trust_env=False)
    assert answer.status_code == 303
    assert SimpleCookie(answer.headers["set-cookie"])["spice_session"].value == ""
    assert httpx.post(f"{base}/ui/logout", trust_env=False).status_code == 403


def test_leaving_ends_the_session_for_whoever_kept_its_cookie(locked: Locked) -> None:
    base = f"http://127.0.0.1:{locked.service.port}"
    kept, other = locked.session(), locked.session()
    assert locked.get("/ui", kept).status_code == 200
    headers = {"Origin": base, "Cookie": f"spice_session={kept}"}
    assert httpx.post(f"{base}/ui/logout", headers=headers, trust_env=False).status_code == 303
    assert locked.get("/ui", kept).status_code == 303
    replica = Sessions(locked.service.app.state.services.keys, locked.service.settings.data_dir)
    assert replica.caller(kept) is None, "on every replica"
    assert locked.get("/ui", other).status_code == 200, "the other session of the same key goes on"


def test_what_a_session_asks_counts_against_the_rate_of_its_key(sqlite_url: str, tmp_path: Path) -> None:
    service = InProcessService(
        sqlite_url, tmp_path / "data", auth="keys", rate_limit_requests=3, rate_limit_seconds=3600
    )
    key, secret = service.app.state.services.keys.create(DEFAULT_PROJECT, "first")
    with service:
        visit = Locked(service, secret, key.id)
        sessions_of_it = [visit.session(), visit.session()]
        assert [visit.get("/ui", word).status_code for word in (*sessions_of_it, sessions_of_it[0])] == [200, 200, 200]
        refused = visit.get("/ui", sessions_of_it[1])
        assert refused.status_code == 429
        assert refused.headers["Retry-After"]
        by_key = visit.get("/v1/jobs", Authorization=f"Bearer {secret}")
        assert by_key.status_code == 429, "one count, whichever way in"


def test_a_page_in_the_clear_cannot_send_forms_to_the_encrypted_one(locked: Locked) -> None:
    services = locked.service.app.state.services
    services.settings = services.settings.model_copy(update={"public_url": "https://select.example.org"})
    for origin, status in (
        ("https://select.example.org", 303),
        ("http://select.example.org", 403),
        (f"http://127.0.0.1:{locked.service.port}", 303),
        (f"ftp://127.0.0.1:{locked.service.port}", 403),
    ):
        assert locked.login(locked.secret, origin=origin).status_code == status, origin


def test_every_replica_signs_with_the_same_secret(locked: Locked) -> None:
    replica = Sessions(locked.service.app.state.services.keys, locked.service.settings.data_dir)
    assert replica.caller(locked.session()) is not None
    assert (locked.service.settings.data_dir / FILE).stat().st_mode & 0o077 == 0


def test_a_foreign_name_pointed_at_this_machine_is_not_local(service: InProcessService) -> None:
    for name, status in (("localhost", 200), ("127.0.0.1", 200), ("[::1]", 200), ("evil.example", 401)):
        answer = service.http.get("/v1/jobs", headers={"Host": f"{name}:{service.port}"})
        assert answer.status_code == status, name
