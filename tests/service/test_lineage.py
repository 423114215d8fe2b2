"""Run events of OpenLineage: what the published types say of them, and how they reach a lineage service."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy import select, update

from app.persistence.tables import LineageCursor
from app.persistence.types import clock
from app.services.health import ROOT
from app.services.notify.lineage import PRODUCER, run_id
from app.services.notify.lineage_feed import LineageFeed
from app.settings import Settings
from tests.fixtures.lineage import LineageServer, published, without_ours
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.background.lineage import FileSink, HttpSink, LineageSender, start_sender

PARENT = {
    "run_id": "019a7f0e-2a55-7000-8000-0123456789ab",
    "job": {"namespace": "airflow", "name": "nightly.select"},
    "root": {"run_id": "019a7f0e-0000-7000-8000-0123456789ab", "job": {"namespace": "airflow", "name": "nightly"}},
}


def ready(service: InProcessService) -> str:
    return str(service.push(jsonl(sums(8)))["id"])


def events_of(service: InProcessService, job_id: str) -> list[dict[str, Any]]:
    answer = service.http.get(f"/v1/jobs/{job_id}/provenance", params={"format": "openlineage"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def sender(service: InProcessService, sink: Any) -> LineageSender:
    return LineageSender(LineageFeed(service.runner.database, "tests"), sink)


def kinds(events: list[dict[str, Any]], job_id: str) -> list[str]:
    return [event["eventType"] for event in events if event["run"]["runId"] == run_id(job_id)]


def at_once(service: InProcessService) -> None:
    """Let no cursor wait for its next try."""
    with service.runner.database.write() as session:
        session.execute(update(LineageCursor).values(not_before=None))


def test_a_job_is_a_run_in_the_published_types_with_its_parent(any_service: InProcessService) -> None:
    service = any_service
    dataset_id = ready(service)
    job = service.submit(dataset_id, parent=PARENT, metadata={"team": "search"}, name="nightly")
    assert job["parent"] == PARENT
    assert events_of(service, job["id"]) == [], "it has not begun"
    service.drain()
    start, complete = events_of(service, job["id"])
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    for event in (start, complete):
        assert published(event) == without_ours(event)
        assert uuid.UUID(event["run"]["runId"]) == uuid.uuid5(uuid.NAMESPACE_URL, f"spice:job/{job['id']}")
        assert event["job"]["name"] == "nightly"
        parent = event["run"]["facets"]["parent"]
        assert parent["run"] == {"runId": PARENT["run_id"]}
        assert parent["root"]["job"] == {"namespace": "airflow", "name": "nightly"}
        parameters = {
            entry["key"]: entry["value"] for entry in event["run"]["facets"]["executionParameters"]["parameters"]
        }
        assert parameters["selection.method"] == "spice"
        assert parameters["selection.budget.count"] == "3"
        assert event["run"]["facets"]["tags"]["tags"] == [{"key": "team", "value": "search", "source": "USER"}]
        data, model = event["inputs"]
        assert (data["name"], model["name"]) == (dataset_id, "model/builtin:tiny")
        assert data["inputFacets"]["inputStatistics"]["rowCount"] == 8
        assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert start["outputs"] == []
    (output,) = complete["outputs"]
    files = service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]
    rows = next(file for file in files if file["name"] == "selected.parquet")
    assert output["facets"]["version"]["datasetVersion"] == rows["sha256"]
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (3, rows["bytes"], len(files))
    schema = json.loads((ROOT / "docs" / "schemas" / "SpiceSelectionDatasetFacet.json").read_text())
    jsonschema.validate(output["facets"]["spice_selection"], schema)
    assert output["facets"]["spice_selection"]["selected"] == 3
    assert start["eventTime"] <= complete["eventTime"]


def test_the_published_types_refuse_what_is_not_of_the_specification(service: InProcessService) -> None:
    job = service.submit(ready(service))
    service.drain()
    event = events_of(service, job["id"])[1]
    event["inputs"][0]["facets"]["storage"]["compression"] = "zstd"
    with pytest.raises(KeyError, match="compression"):
        published(event)
    assert event["producer"] == PRODUCER


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"run_id": "7"}, "#/parent/run_id"),
        ({"job": {"namespace": "", "name": "x"}}, "#/parent/job/namespace"),
        ({"job": {"name": "x"}}, "#/parent/job/namespace"),
        ({"more": 1}, "#/parent/more"),
        ({"root": {"run_id": PARENT["run_id"]}}, "#/parent/root/job"),
    ],
)
def test_a_parent_that_is_none_is_refused(service: InProcessService, change: dict[str, Any], pointer: str) -> None:
    body = {"dataset_id": "ds_x", "budget": {"count": 1}, "parent": {**PARENT, **change}}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_how_a_run_ended_is_told(any_service: InProcessService) -> None:
    service = any_service
    dataset_id = ready(service)
    cancelled = service.submit(dataset_id)
    assert service.http.post(f"/v1/jobs/{cancelled['id']}/cancel").status_code == 202
    failed = service.submit(dataset_id, seed=2)
    claim = service.runner.units.claim_next("doomed")
    assert claim is not None
    service.runner.units.fail(claim, "proxy-changed", "the model is another one")
    service.drain()
    start, abort = events_of(service, cancelled["id"])
    assert (start["eventType"], abort["eventType"]) == ("START", "ABORT")
    assert abort["outputs"] == []
    _, fail = events_of(service, failed["id"])
    assert fail["eventType"] == "FAIL"
    message = fail["run"]["facets"]["errorMessage"]
    assert message["message"] == "proxy-changed: the model is another one"
    assert all(published(event) == without_ours(event) for event in (start, abort, fail))


def test_every_event_arrives_in_order_though_the_lineage_service_comes_and_goes(any_service: InProcessService) -> None:
    service = any_service
    jobs = []
    with LineageServer() as server:
        out = sender(service, HttpSink(server.url, "lineage-key"))
        dataset_id = ready(service)
        for seed in range(3):
            jobs.append(service.submit(dataset_id, seed=seed)["id"])
        # The service is down, then overloaded, then wants another key: a job knows nothing of it.
        server.answers += [503, 429, 401]
        service.drain()
        for tries in range(1, 4):
            assert out.send_next()
            assert not server.taken
            with service.runner.database.read() as session:
                cursor = session.scalars(select(LineageCursor)).one()
            assert (cursor.failures, cursor.holder) == (tries, None)
            assert cursor.error is not None
            assert not out.send_next(), "it waits before it tries again"
            at_once(service)
        while out.send_next():
            pass
        for job_id in jobs:
            assert service.job(job_id)["status"] == "succeeded"
            assert kinds(server.taken, job_id) == ["START", "COMPLETE"]
        assert server.headers[0]["Authorization"] == "Bearer lineage-key"
        # What is told is told; a new sender goes on where the last one stopped.
        count = len(server.taken)
        again = sender(service, HttpSink(server.url, ""))
        assert not again.send_next()
        more = service.submit(dataset_id, seed=9)["id"]
        service.drain()
        while again.send_next():
            pass
        assert kinds(server.taken[count:], more) == ["START", "COMPLETE"]
        assert "Authorization" not in server.headers[-1]


def test_an_event_that_is_refused_for_good_does_not_hold_up_the_others(service: InProcessService) -> None:
    job = service.submit(ready(service))
    service.drain()
    with LineageServer() as server:
        server.answers = [422]
        out = sender(service, HttpSink(server.url, ""))
        while out.send_next():
            pass
        assert kinds(server.taken, job["id"]) == ["COMPLETE"]


def test_a_sender_that_dies_between_sending_and_noting_it_sends_again(
    any_service: InProcessService, tmp_path: Path
) -> None:
    service = any_service
    job = service.submit(ready(service))
    service.drain()
    target = tmp_path / "lineage.jsonl"
    feed = LineageFeed(service.runner.database, "tests")
    batch = feed.next()
    assert batch is not None
    sink = FileSink(target)
    for told in batch.events:
        for event in told.run_events:
            sink.send(event)
    # It dies here. Nobody else takes the batch until its hold runs out; then all of it is sent again.
    other = LineageSender(feed, sink)
    assert not other.send_next()
    with service.runner.database.write() as session:
        session.execute(update(LineageCursor).values(held_until=clock(-1)))
    assert other.send_next()
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert kinds(lines, job["id"]) == ["START", "COMPLETE"] * 2
    assert lines[0] == lines[2]
    # The first one wakes up: what it would note down is stale and changes nothing.
    assert not feed.settle(batch, batch.events[0].event_id, None)


def test_a_job_ends_though_nothing_takes_its_events(service: InProcessService, tmp_path: Path) -> None:
    job = service.submit(ready(service))
    service.drain()
    out = sender(service, FileSink(tmp_path / "missing" / "lineage.jsonl"))
    assert out.send_next()
    assert service.job(job["id"])["status"] == "succeeded"
    with service.runner.database.read() as session:
        cursor = session.scalars(select(LineageCursor)).one()
    assert "No such file" in (cursor.error or "")


def test_the_sender_of_a_process_tells_what_happens_until_it_ends(service: InProcessService, tmp_path: Path) -> None:
    target = tmp_path / "lineage.jsonl"
    settings = service.settings.model_copy(update={"openlineage_file": target})
    shutdown = threading.Event()
    thread = start_sender(settings, shutdown)
    assert thread is not None
    job = service.submit(ready(service))
    service.drain()
    deadline = time.monotonic() + 120
    while not (target.exists() and len(target.read_text().splitlines()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shutdown.set()
    thread.join(20)
    assert not thread.is_alive()
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert kinds(lines, job["id"]) == ["START", "COMPLETE"]
    assert lines[0]["job"]["namespace"] == "spice-select"
    assert start_sender(service.settings, shutdown) is None, "off unless it is configured"


def test_events_go_to_one_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="openlineage"):
        Settings(_env_file=None, openlineage_url="http://marquez:5000/api/v1/lineage", openlineage_file=tmp_path / "x")
