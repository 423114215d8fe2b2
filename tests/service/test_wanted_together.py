"""Jobs that want the same gradients at the same time: none waits for another, all wait for whoever changes the set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import GradientSets
from app.persistence.session import Database
from app.status import GradientSetStatus, JobStatus
from tests.fixtures.service import InProcessService, jsonl, sums

SECONDS = 120.0


@pytest.fixture
def wanted(postgres_service: InProcessService) -> Iterator[tuple[InProcessService, Database, str, str]]:
    """A service with a queued job, a second connection to its database, the id and fingerprint of the job's set."""
    dataset = postgres_service.push(jsonl(sums(8)))["id"]
    job = postgres_service.submit(dataset)
    found = postgres_service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()
    database = Database(str(postgres_service.settings.database_url))
    yield postgres_service, database, found["id"], found["fingerprint"]
    database.dispose()


def _begin(step: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def _until_waiting(database: Database, number: int) -> None:
    """Until so many transactions wait for an advisory lock."""
    deadline = time.monotonic() + SECONDS
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while True:
        with database.read() as session:
            if session.scalar(query) == number:
                return
        assert time.monotonic() < deadline, f"never were {number} waiting"
        time.sleep(0.01)


def test_a_job_is_made_while_another_one_of_the_same_gradients_is_being_made(
    wanted: tuple[InProcessService, Database, str, str],
) -> None:
    service, database, _, fingerprint = wanted
    dataset = service.http.get("/v1/datasets").json()["data"][0]["id"]
    with database.write() as session:
        GradientSets(session).join(DEFAULT_PROJECT, fingerprint)
        assert service.submit(dataset)["status"] == JobStatus.QUEUED  # would be refused after ten seconds of waiting


def test_who_changes_a_set_waits_for_those_before_and_goes_before_those_behind(
    wanted: tuple[InProcessService, Database, str, str],
) -> None:
    _, database, set_id, fingerprint = wanted
    order: list[str] = []

    def change() -> None:
        with database.write() as session:
            GradientSets(session).lock(set_id)
            order.append("changed")

    def come_late() -> None:
        with database.write() as session:
            GradientSets(session).join(DEFAULT_PROJECT, fingerprint)
            order.append("late")

    with database.write() as session:
        GradientSets(session).join(DEFAULT_PROJECT, fingerprint)
        changing = _begin(change)
        _until_waiting(database, 1)
        late = _begin(come_late)
        _until_waiting(database, 2)
        order.append("first")
    changing.join(SECONDS)
    late.join(SECONDS)
    assert order == ["first", "changed", "late"]


def test_a_job_that_comes_while_its_gradients_fail_starts_them_anew(
    wanted: tuple[InProcessService, Database, str, str],
) -> None:
    service, database, set_id, _ = wanted
    dataset = service.http.get("/v1/datasets").json()["data"][0]["id"]
    made: list[str] = []
    with database.write() as session:
        GradientSets(session).lock(set_id)
        GradientSets(session).set_status(set_id, GradientSetStatus.FAILED)
        posting = _begin(lambda: made.append(service.submit(dataset)["id"]))
        _until_waiting(database, 1)
        assert not made
    posting.join(SECONDS)
    assert service.job(made[0])["status"] == JobStatus.QUEUED
    assert service.http.get(f"/v1/gradient-sets/{set_id}").json()["status"] == GradientSetStatus.COMPUTING
    service.drain()
    assert service.job(made[0])["status"] == JobStatus.SUCCEEDED
