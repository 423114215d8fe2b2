"""A database that somebody else has locked: requests end, and the process still says that it lives."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.ids import DEFAULT_PROJECT
from app.persistence import session
from tests.fixtures.service import InProcessService

BODY = {"dataset_id": "ds_01K9RZ3V5X8N3Q2J6T4W7Y0ABC", "budget": {"count": 1}}
POSTS = 60
THREADS = 40
"""Of an API process: the framework's own number."""
HANGS = 300.0
LOOKS = 20
LIVEZ_SECONDS = 0.1
"""What `/livez` may take, whatever the database does."""


def test_the_waits_are_shorter_than_what_is_promised() -> None:
    assert max(session.SQLITE_WAIT_SECONDS, session.POOL_WAIT_SECONDS) < 10
    assert session.LOCK_WAIT_MILLISECONDS < 10_000


@pytest.fixture
def other(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """Another process that writes into the database, once it begins."""
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    yield connection
    connection.close()


def test_a_job_for_a_locked_database_is_refused(
    sqlite_url: str, other: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SQLITE_WAIT_SECONDS", 0.2)
    with InProcessService(sqlite_url, tmp_path / "data") as service:
        other.execute("BEGIN IMMEDIATE")
        refused = service.http.post("/v1/jobs", json=BODY)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert refused.headers["Retry-After"]


def test_the_process_says_that_it_lives_while_every_thread_waits(
    sqlite_url: str, other: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SQLITE_WAIT_SECONDS", "POOL_WAIT_SECONDS"):
        monkeypatch.setattr(session, name, HANGS)
    order: list[str] = []
    with InProcessService(sqlite_url, tmp_path / "data") as service, ThreadPoolExecutor(POSTS) as pool:
        other.execute("BEGIN IMMEDIATE")

        def post(_: int) -> int:
            status = service.http.post("/v1/jobs", json=BODY, timeout=HANGS).status_code
            order.append("post")
            return status

        posts = [pool.submit(post, number) for number in range(POSTS)]
        while sum(thread.name.startswith("AnyIO worker") for thread in threading.enumerate()) < THREADS:
            time.sleep(0.01)
        try:
            took = []
            for _ in range(LOOKS):
                began = time.monotonic()
                assert service.http.get("/livez", timeout=60).status_code == 200
                took.append(time.monotonic() - began)
            order.append("livez")
        finally:
            other.rollback()
        assert {posted.result(HANGS) for posted in posts} == {404}
    assert order[0] == "livez"
    assert min(took) < LIVEZ_SECONDS, took  # the quickest: what is slower waited for the processor


def test_a_key_that_is_remembered_never_has_the_process_wait_for_the_database(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be forgotten between two looks; the second one would be in the thread that serves everybody."""
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    keys = service.app.state.services.keys
    secret = keys.create(DEFAULT_PROJECT, "one")[1]
    with service:
        headers = {"Authorization": f"Bearer {secret}"}
        assert service.http.get("/v1/events", headers=headers).status_code == 200
        asked: list[str] = []

        def forgotten(_: str) -> None:
            asked.append(threading.current_thread().name)

        monkeypatch.setattr(keys, "verify", forgotten)
        assert service.http.get("/v1/events", headers=headers).status_code == 200
        assert asked == []
