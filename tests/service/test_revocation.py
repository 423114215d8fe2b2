"""A key that is revoked ends what it has under way, within the five seconds that are promised."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.api import middleware, revocation, sse
from app.ids import DEFAULT_PROJECT
from app.services.access import keys as key_service
from app.services.access.keys import KeyService
from tests.fixtures.service import InProcessService, jsonl, sums

PROMISED = 5.0
HANGS = 60.0


@pytest.fixture
def locked(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[InProcessService, str, str]]:
    """A service that asks for keys, and a key of it that another process revokes."""
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    key, secret = KeyService(service.runner.database).create(DEFAULT_PROJECT, "first")
    with service:
        service.http.headers["Authorization"] = f"Bearer {secret}"
        yield service, key.id, secret


def revoke(service: InProcessService, key_id: str) -> None:
    """By another replica: this one has to look."""
    KeyService(service.runner.database).revoke(None, key_id)


def test_the_promise_is_kept_by_the_numbers() -> None:
    """What is remembered of a key and the pause between two looks add up to less; timing itself is not tested."""
    assert key_service.VALIDITY_SECONDS + revocation.CHECK_SECONDS < PROMISED
    assert sse.CHECK_SECONDS == middleware.CHECK_SECONDS == revocation.CHECK_SECONDS
    assert key_service.REMEMBERED_SECONDS <= PROMISED


def test_an_event_stream_ends_with_its_key(
    locked: tuple[InProcessService, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, key_id, _ = locked
    monkeypatch.setattr(sse, "LIFETIME_SECONDS", 120.0)  # without the check it ends then, after a ping
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 60.0)
    headers = {"Accept": "text/event-stream"}
    with service.http.stream("GET", "/v1/events", headers=headers, timeout=HANGS) as answer:
        chunks = answer.iter_raw()
        assert next(chunks)
        revoke(service, key_id)
        assert list(chunks) == [], "the stream has ended, and not with its half hour"


@pytest.mark.parametrize("pause", [0.0, middleware.CHECK_SECONDS])
def test_a_long_poll_ends_with_its_key(
    locked: tuple[InProcessService, str, str], monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """The answer that says so comes whole, however long ago the key of its own answer was looked at."""
    service, key_id, _ = locked
    monkeypatch.setattr(middleware, "CHECK_SECONDS", pause)
    sent = service.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(2)))})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.http.get, sent.headers["Location"], params={"wait": 30}, timeout=HANGS)
        while not service.app.state.services.keys._known:  # the poll has been let in
            time.sleep(0.01)
        revoke(service, key_id)
        assert waiting.result(HANGS).status_code == 401


def test_a_download_breaks_off_with_its_key(
    locked: tuple[InProcessService, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the buffers hold, to a client that reads on only after the key is gone."""
    service, key_id, secret = locked
    monkeypatch.setattr(middleware, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(key_service, "VALIDITY_SECONDS", 0.0)
    size = 64 * 2**20
    path = service.settings.data_dir / "large"
    path.write_bytes(bytes(size))
    from app.services.results.files import ResultService, Stored

    large = Stored(name="selected.jsonl", path=path, bytes=size, sha256="0" * 64, media_type="application/jsonl")
    monkeypatch.setattr(ResultService, "file", lambda *_: large)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(HANGS)
        request = "GET /v1/jobs/job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC/files/selected.jsonl HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        connection.sendall(f"{request}Authorization: Bearer {secret}\r\n\r\n".encode())
        received = len(connection.recv(65536))
        revoke(service, key_id)
        while part := connection.recv(2**20):
            received += len(part)
    assert received < size


def test_of_many_streams_of_a_key_one_asks(locked: tuple[InProcessService, str, str]) -> None:
    service, key_id, _ = locked
    keys = KeyService(service.runner.database)
    asked: list[str] = []
    real = keys.database.read

    def counted() -> object:
        asked.append(threading.current_thread().name)
        return real()

    keys.database = type("Counted", (), {"read": staticmethod(counted)})()  # type: ignore[assignment]
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(keys.still_valid, [key_id] * 64))
    assert len(asked) == 1


def test_a_stream_that_no_key_opened_goes_on(service: InProcessService) -> None:
    with service.http.stream("GET", "/v1/events", headers={"Accept": "text/event-stream"}, timeout=HANGS) as answer:
        chunks = answer.iter_raw()
        assert next(chunks)
        service.push(jsonl(sums(2)))
        assert b"dataset.validating" in next(chunks)
    assert httpx.get(f"http://127.0.0.1:{service.port}/livez").status_code == 200
