"""The log of events: its order, its pages, and the stream that any replica continues."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import Events
from app.persistence.session import Database
from app.services.access.keys import KeyService
from app.services.notify.events import EventService
from tests.fixtures.processes import ApiProcess, environment
from tests.fixtures.service import InProcessService, jsonl, sums

SSE = {"Accept": "text/event-stream"}


@contextmanager
def opened(service: InProcessService, path: str, **headers: str) -> Generator[Iterator[dict[str, str]]]:
    """The events of a stream as their fields; comments and bare numbers are left out."""
    with service.http.stream("GET", path, headers={**SSE, **headers}, timeout=20) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")

        def events() -> Iterator[dict[str, str]]:
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    yield fields
                    fields = {}
                else:
                    fields = {}

        yield events()


def append(database: Database, type_: str = "job.noted", project_id: str = DEFAULT_PROJECT) -> None:
    with database.write() as session:
        Events(session).append(project_id, type_)


def test_a_jobs_stream_is_its_history_and_ends_with_it(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))
    job = any_service.submit(dataset["id"])
    path = f"/v1/jobs/{job['id']}/events"
    working = threading.Thread(target=any_service.drain)
    with opened(any_service, path) as events:
        first = next(events)
        assert first["event"] == "job.queued"
        working.start()
        streamed = [first, *events]
    working.join()
    pages = any_service.http.get(path).json()["data"]
    assert [json.loads(event["data"]) for event in streamed] == pages
    assert [event["event"] for event in streamed] == [event["type"] for event in pages]
    assert [event["id"] for event in streamed] == [str(event["id"]) for event in pages]
    assert [event["event"] for event in streamed][-1] == "job.succeeded"
    assert {event["job_id"] for event in pages} == {job["id"]}
    # Going on behind any event gives exactly the rest, and behind the last nothing, for good.
    for seen, event in enumerate(streamed[:-1], start=1):
        with opened(any_service, path, **{"Last-Event-ID": event["id"]}) as rest:
            assert list(rest) == streamed[seen:]
    over = any_service.http.get(path, headers={**SSE, "Last-Event-ID": streamed[-1]["id"]})
    assert over.status_code == 204
    with opened(any_service, f"{path}?type=job.running") as running:
        assert [event["event"] for event in running] == ["job.running"], "it ends although the last event is filtered"


def test_the_stream_of_a_job_that_has_ended_ends_whatever_its_last_event_is(service: InProcessService) -> None:
    job = service.submit(service.push(jsonl(sums(8)))["id"])
    path = f"/v1/jobs/{job['id']}/events"
    service.http.post(f"/v1/jobs/{job['id']}/cancel")
    last = service.http.get(path).json()["data"][-1]
    with service.runner.database.write() as session:
        Events(session).append(DEFAULT_PROJECT, "job.archived", job_id=job["id"])  # of a newer release, say
    with opened(service, path, **{"Last-Event-ID": str(last["id"])}) as events:
        assert [event["event"] for event in events] == ["job.archived"]


def test_a_projects_stream_tells_what_happens_from_now_on_and_goes_on_behind_a_cursor(
    any_service: InProcessService,
) -> None:
    database = any_service.runner.database
    append(database, "job.queued")
    page = any_service.http.get("/v1/events?limit=1").json()
    assert [event["type"] for event in page["data"]] == ["job.queued"]
    with opened(any_service, "/v1/events") as events:
        append(database, "job.running")
        assert next(events)["event"] == "job.running"
    cursor = any_service.http.get("/v1/events?type=job.queued&limit=1").json()["data"][0]["id"]
    with opened(any_service, "/v1/events", **{"Last-Event-ID": str(cursor)}) as events:
        assert next(events)["event"] == "job.running"
        started = time.monotonic()
        append(database, "job.failed")
        assert next(events)["event"] == "job.failed"
        assert time.monotonic() - started < 10, "long before the stream would have ended"


def test_a_stream_of_one_data_set_tells_of_no_other(any_service: InProcessService) -> None:
    def send(number: int) -> str:
        return str(any_service.http.post("/v1/datasets", files={"file": jsonl(sums(2 + number))}).json()["id"])

    first, second = send(0), send(1)
    path = f"/v1/events?dataset_id={second}"
    told = any_service.http.get(path).json()["data"]
    assert [(event["type"], event["dataset_id"]) for event in told] == [("dataset.validating", second)]
    with opened(any_service, path, **{"Last-Event-ID": "0"}) as events:
        assert json.loads(next(events)["data"]) == told[0]
        with any_service.runner.database.write() as session:
            for dataset_id in (first, second):
                Events(session).append(DEFAULT_PROJECT, "dataset.ready", dataset_id=dataset_id)
        assert json.loads(next(events)["data"])["dataset_id"] == second


def test_a_stream_that_does_not_keep_up_reads_the_log(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.sse.QUEUED_EVENTS", 3)
    monkeypatch.setattr("app.api.sse.READ_EVENTS", 7)
    database = service.runner.database
    with opened(service, "/v1/events") as events:
        append(database, "job.0")
        assert next(events)["event"] == "job.0"
        with database.write() as session:
            for number in range(1, 60):
                Events(session).append(DEFAULT_PROJECT, f"job.{number}")
        assert [next(events)["event"] for _ in range(59)] == [f"job.{number}" for number in range(1, 60)]


def test_numbers_become_visible_in_their_order(database_url: str) -> None:
    """Writers of one project race; whoever reads on from the highest number seen must see every event."""
    database = Database(database_url, pool_size=12)
    writers, each = 8, 25

    def write() -> None:
        for _ in range(each):
            append(database)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    service, seen, after = EventService(database), 0, 0
    deadline = time.monotonic() + 60
    while seen < writers * each and time.monotonic() < deadline:
        for event in service.behind({DEFAULT_PROJECT: after}, 1000):
            assert event.id > after
            after = event.id
            seen += 1
    for thread in threads:
        thread.join()
    database.dispose()
    assert seen == writers * each


def test_the_numbers_of_a_project_tell_nothing_of_what_others_do(any_database_url: str) -> None:
    """Each project counts its own events: what lies between two of them is nobody's business."""
    database = Database(any_database_url)
    other = KeyService(database).create_project("other").id
    before = {project: EventService(database).last(project) for project in (DEFAULT_PROJECT, other)}
    for project, times in ((other, 3), (DEFAULT_PROJECT, 1), (other, 5), (DEFAULT_PROJECT, 2)):
        for _ in range(times):
            append(database, project_id=project)
    with database.write() as session:  # and where one transaction writes of both
        for project in (other, DEFAULT_PROJECT, other):
            Events(session).append(project, "job.noted")
    for project, number in ((DEFAULT_PROJECT, 4), (other, 10)):
        seen = EventService(database).page(project, after=before[project], limit=100)
        assert [event.id - before[project] for event in seen] == list(range(1, number + 1))
    database.dispose()


def test_refusals_are_problems(service: InProcessService) -> None:
    for path in ("/v1/jobs/job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC/events", "/v1/jobs/job_none/events?after=x"):
        answers = [service.http.get(path, headers=headers) for headers in (SSE, {})]
        assert {answer.status_code for answer in answers} == ({404} if "after" not in path else {422})
    bad = service.http.get("/v1/events", headers={**SSE, "Last-Event-ID": "x"})
    assert (bad.status_code, bad.json()["code"]) == (422, "validation-error")
    head = service.http.head("/v1/events", headers=SSE)
    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        ({"max_event_streams_of_project": 2}, 429, "too-many-streams"),
        ({"max_event_streams": 2}, 503, "unavailable"),
    ],
)
def test_a_stream_too_many_is_refused_and_a_closed_one_makes_room(
    sqlite_url: str, tmp_path: Path, limits: dict[str, Any], status: int, code: str
) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", **limits) as service:
        with opened(service, "/v1/events"), opened(service, "/v1/events"):
            refused = service.http.get("/v1/events", headers=SSE)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
            assert int(refused.headers["retry-after"]) > 0
            assert service.http.get("/v1/events").status_code == 200, "pages take no place"
        deadline = time.monotonic() + 10
        while len(service.app.state.services.hub) and time.monotonic() < deadline:
            time.sleep(0.05)
        with opened(service, "/v1/events") as events:
            append(service.runner.database)
            assert next(events)["event"] == "job.noted"


def test_a_server_asked_to_end_ends_its_streams_and_another_continues(
    database_url: str, tmp_path: Path, launch: Callable[[ApiProcess], ApiProcess]
) -> None:
    env = environment(data_dir=tmp_path / "data", database_url=database_url)
    first, second = (launch(ApiProcess(env, tmp_path, name=name)) for name in ("first", "second"))
    database = Database(database_url)
    append(database, "job.1")
    url = "/v1/events?after=MA"
    with httpx.stream("GET", first.url + url, headers=SSE, timeout=60) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: job.1"
        assert first.process is not None
        os.kill(first.pid, signal.SIGTERM)
        started = time.monotonic()
        for _ in lines:
            pass  # to its orderly end: a cut connection would raise
        assert first.process.wait(60) is not None
        assert time.monotonic() - started < 20
    append(database, "job.2")
    last = EventService(database).last(DEFAULT_PROJECT) - 1
    with httpx.stream("GET", second.url + url, headers={**SSE, "Last-Event-ID": str(last)}, timeout=60) as response:
        assert next(line for line in response.iter_lines() if line.startswith("event:")) == "event: job.2"
    database.dispose()
