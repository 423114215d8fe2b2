"""The log of a job: what workers did, line by line, whatever became of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import UnitLogs
from app.persistence.repositories.rows import now
from app.persistence.repositories.unit_logs import MOST_LINES, LogLine, Writer
from app.persistence.tables import Project, Unit, UnitLogLine
from app.persistence.types import clock
from app.services.access.keys import KeyService
from app.services.storage.retention import Retention
from app.services.units.leases import Report
from spice_select.client import Client
from tests.fixtures.service import InProcessService, jsonl, sums


def log_of(service: InProcessService, job_id: str, **query: Any) -> list[dict[str, Any]]:
    answer = service.http.get(f"/v1/jobs/{job_id}/logs", params={"limit": 1000, **query})
    assert answer.status_code == 200, answer.text
    lines: list[dict[str, Any]] = answer.json()["data"]
    return lines


def test_a_log_tells_of_every_unit_in_order_and_page_by_page(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(30)))["id"]
    job = any_service.submit(dataset)["id"]
    assert log_of(any_service, job) == []
    any_service.drain()
    lines = log_of(any_service, job)
    told = [(line["unit_kind"], line["code"], line["data"].get("phase")) for line in lines]
    assert told[:3] == [
        ("gradients", "claimed", None),
        ("gradients", "phase_began", "loading_model"),
        ("gradients", "phase_ended", "loading_model"),
    ]
    assert ("select", "phase_ended", "writing_files") in told
    done = [line for line in lines if line["code"] == "committed"]
    assert [line["unit_kind"] for line in done] == ["gradients", "select"]
    assert done[0]["data"].items() >= {"samples": 30, "excluded": 0}.items()
    assert done[0]["message"].startswith(f"done: 30 rows, {done[0]['data']['tokens']:,} tokens in ")
    assert {line["worker"] for line in lines} == {"test-worker"}
    assert {line["level"] for line in lines} == {"info"}
    assert log_of(any_service, job, unit_id=done[1]["unit_id"]) == [
        line for line in lines if line["unit_id"] == done[1]["unit_id"]
    ]

    paged, after = [], None
    while True:
        page = any_service.http.get(
            f"/v1/jobs/{job}/logs", params={"limit": 2, **({"after": after} if after else {})}
        ).json()
        paged += page["data"]
        after = page["next_cursor"]
        if after is None:
            break
    assert paged == lines
    # Another job on the same gradients sees who measured them, and nothing of the other's selection.
    other = any_service.submit(dataset, budget={"count": 4})["id"]
    any_service.drain()
    of_other = log_of(any_service, other)
    assert of_other[: len(lines)] != lines
    assert [line for line in of_other if line["unit_kind"] == "gradients"] == [
        line for line in lines if line["unit_kind"] == "gradients"
    ]
    assert done[1]["unit_id"] not in {line["unit_id"] for line in of_other}
    wrong = any_service.http.get(f"/v1/jobs/{job}/logs", params={"after": "am9i"})
    assert (wrong.status_code, wrong.json()["errors"][0]["parameter"]) == (422, "after")


def test_a_log_says_why_an_attempt_failed_and_that_a_worker_died(any_service: InProcessService) -> None:
    job = any_service.submit(any_service.push(jsonl(sums(20)))["id"])["id"]
    units = any_service.runner.units
    first = units.claim_next("doomed:1")
    assert first is not None
    # It says where it is with a heartbeat, and is never heard of again.
    units.heartbeat(first, Report("loading_model", 0, None, None, None), [LogLine("info", "phase_began", "it began")])
    with any_service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == first.unit_id).values(lease_until=clock(-3600)))
    second = units.claim_next("worker:2")
    assert second is not None
    assert second.unit_id == first.unit_id
    units.fail(second, "device-lost", "the device is gone")
    any_service.drain()
    lines = log_of(any_service, job)
    assert any_service.job(job)["status"] == "succeeded"
    assert [(line["worker"], line["attempt"], line["level"], line["code"]) for line in lines[:5]] == [
        ("doomed:1", 1, "info", "claimed"),
        ("doomed:1", 1, "info", "phase_began"),
        ("worker:2", 2, "warning", "claimed"),
        ("worker:2", 2, "warning", "device-lost"),
        ("test-worker", 3, "warning", "claimed"),
    ]
    assert "1 worker was lost" in lines[2]["message"]
    assert lines[3]["message"] == "the device is gone; tried again in 0 s"
    assert [line["code"] for line in log_of(any_service, job, level="warning")] == ["claimed", "device-lost", "claimed"]
    assert log_of(any_service, job, level="error") == []


def test_a_log_is_bounded_and_goes_with_its_job_and_with_time(service: InProcessService) -> None:
    job = service.submit(service.push(jsonl(sums(20)))["id"])["id"]
    service.drain()
    lines = log_of(service, job)
    unit = next(line["unit_id"] for line in lines if line["unit_kind"] == "select")
    database = service.runner.database
    with database.write() as session:
        line = LogLine("info", "phase_began", "x" * 10_000)
        UnitLogs(session).write(Writer(unit, DEFAULT_PROJECT, 1, None), [line] * (2 * MOST_LINES))
    with database.read() as session:
        count = select(func.count()).select_from(UnitLogLine).where(UnitLogLine.unit_id == unit)
        assert session.scalars(count).one() == MOST_LINES
        assert session.scalars(select(func.max(func.length(UnitLogLine.message)))).one() == 500
    with database.write() as session:
        session.execute(update(UnitLogLine).where(UnitLogLine.unit_id != unit).values(created_at=clock(-40 * 86400)))
    retention = Retention(database, service.runner.store, service.settings)
    assert retention.forget_logs() == sum(line["unit_id"] != unit for line in lines)
    assert {line["unit_id"] for line in log_of(service, job)} == {unit}
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 204
    assert service.http.get(f"/v1/jobs/{job}/logs").status_code == 404
    with database.read() as session:
        assert session.scalars(select(func.count()).select_from(UnitLogLine)).one() == 0


def test_nobody_reads_the_log_of_another_project(sqlite_url: str, tmp_path: Path) -> None:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    keys = KeyService(service.runner.database)
    with service.runner.database.write() as session:
        session.add(Project(id="proj_other", name="other", created_at=now(session)))
    mine, other = keys.create(DEFAULT_PROJECT, "mine")[1], keys.create("proj_other", "theirs")[1]
    reader = keys.create(DEFAULT_PROJECT, "reads", ["datasets:read"])[1]
    with service:
        service.http.headers["Authorization"] = f"Bearer {mine}"
        job = service.submit(service.push(jsonl(sums(8)))["id"])["id"]
        service.drain()
        assert log_of(service, job)
        for secret, status in ((other, 404), (reader, 403)):
            answer = service.http.get(f"/v1/jobs/{job}/logs", headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == status


def test_the_client_follows_a_log_to_the_end_of_the_job(service: InProcessService) -> None:
    job = service.submit(service.push(jsonl(sums(20)))["id"])["id"]
    with Client(str(service.http.base_url)) as client:
        followed: list[str] = []
        reader = threading.Thread(target=lambda: followed.extend(x.id for x in client.jobs.logs(job, follow=True)))
        reader.start()
        service.drain()
        reader.join(120)
        assert not reader.is_alive()
        assert followed == [line["id"] for line in log_of(service, job)]
        assert len(followed) == len(set(followed)) > 5
        shown = service.http.get(f"/ui/jobs/{job}/logs").text
        assert "attempt 1 began" in shown
        assert "test-worker" in shown


def test_a_line_that_is_younger_than_a_second_waits_while_the_job_goes_on(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.submit(service.push(jsonl(sums(20)))["id"])["id"]
    service.runner.units.claim_next("somebody")
    monkeypatch.setattr("app.services.jobs.logs.SETTLED_SECONDS", 3600.0)
    assert log_of(service, job) == []
    monkeypatch.setattr("app.services.jobs.logs.SETTLED_SECONDS", 0.0)
    assert [line["code"] for line in log_of(service, job)] == ["claimed"]
