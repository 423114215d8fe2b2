"""A schedule makes one job at each of its times, on the newest version of a pool, and none where nothing changed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from app.errors import ServiceError
from app.persistence.tables import Schedule
from app.persistence.types import clock
from app.services.jobs.schedules import ScheduleService, next_time
from spice_select.client import Client
from tests.fixtures.service import InProcessService, jsonl, sums

SMALL = {"sketch_dim": 4, "max_length": 128}


def make_due(service: InProcessService, schedule_id: str, seconds: float = 1.0) -> None:
    """Let the time of a schedule have come so long ago."""
    with service.runner.database.write() as session:
        session.execute(update(Schedule).where(Schedule.id == schedule_id).values(next_fire_at=clock(-seconds)))


def scheduled(service: InProcessService, dataset: str, **more: Any) -> dict[str, Any]:
    job = {"dataset_id": dataset, "budget": {"count": 3}, "gradients": SMALL, **more.pop("job", {})}
    answer = service.http.post("/v1/schedules", json={"name": "nightly", "cron": "0 2 * * *", "job": job, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def jobs_of(service: InProcessService, schedule_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.http.get(
        "/v1/jobs", params={"metadata": f"schedule_id={schedule_id}", "sort": "oldest"}
    ).json()["data"]
    return found


def events_of(service: InProcessService) -> list[tuple[str, str | None]]:
    types = ["schedule.fired", "schedule.skipped", "schedule.failed"]
    data = service.http.get("/v1/events", params={"type": types}).json()["data"]
    return [(event["type"], event["data"].get("detail")) for event in data]


def test_each_night_selects_from_what_was_appended_and_adds_to_the_night_before(any_service: InProcessService) -> None:
    http, schedules = any_service.http, any_service.app.state.services.schedules
    dataset = any_service.push(jsonl(sums(20)))["id"]
    targets = [{"name": "sums", "rows": sums(3, 500)}]
    made = scheduled(any_service, dataset, extends_previous=True, job={"targets": targets, "metadata": {"team": "a"}})
    assert made["next_fire_at"] > made["created_at"]
    assert schedules.fire_due() == 0, "it is not its time"
    make_due(any_service, made["id"], seconds=3 * 86400)
    assert schedules.fire_due() == 1
    assert schedules.fire_due() == 0, "three missed nights are made up for once"
    [first] = jobs_of(any_service, made["id"])
    assert (first["name"], first["metadata"]) == ("nightly", {"team": "a", "schedule_id": made["id"]})

    make_due(any_service, made["id"])
    assert schedules.fire_due() == 0
    any_service.drain()
    make_due(any_service, made["id"])
    assert schedules.fire_due() == 0
    appended = http.post(f"/v1/datasets/{dataset}/append", files={"file": ("more.jsonl", jsonl(sums(20, 100)))}).json()
    make_due(any_service, made["id"])
    assert schedules.fire_due() == 0, "the new version is not ready"
    any_service.drain()
    make_due(any_service, made["id"])
    assert schedules.fire_due() == 1
    any_service.drain()
    jobs = jobs_of(any_service, made["id"])
    assert [job["dataset_id"] for job in jobs] == [dataset, appended["id"]]
    assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
    assert jobs[1]["config"]["conditions"]["given_job"] == jobs[0]["id"]
    picks = [{row["source_row"] for row in http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]} for job in jobs]
    assert not picks[0] & picks[1]
    assert events_of(any_service) == [
        ("schedule.fired", None),
        ("schedule.skipped", f"{jobs[0]['id']} of the time before is queued"),
        ("schedule.skipped", "the data set has not changed"),
        ("schedule.skipped", "the data set has not changed"),
        ("schedule.fired", None),
    ]
    shown = http.get(f"/v1/schedules/{made['id']}").json()
    assert (shown["last_outcome"], shown["last_job_id"]) == ("fired", jobs[1]["id"])


def test_two_replicas_make_one_job(any_service: InProcessService) -> None:
    made = scheduled(any_service, any_service.push(jsonl(sums(20)))["id"])
    make_due(any_service, made["id"])
    service = any_service.app.state.services.schedules
    # Both have seen that it is due before either of them has made anything.
    due = _due(service)
    start, fired = threading.Barrier(2), []

    def fire() -> None:
        start.wait()
        fired.append(service._fire(due[0]))

    threads = [threading.Thread(target=fire) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(fired) == [False, True]
    assert len(jobs_of(any_service, made["id"])) == 1
    assert events_of(any_service) == [("schedule.fired", None)]


def _due(service: ScheduleService) -> list[Schedule]:
    from app.persistence.repositories import Schedules

    with service.database.read() as session:
        return Schedules(session).due(10)


def test_a_process_that_dies_in_between_is_made_up_for(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scheduled(service, service.push(jsonl(sums(20)))["id"])
    make_due(service, made["id"])
    schedules = service.app.state.services.schedules

    def dies(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("app.persistence.repositories.schedules.Schedules.advance", dies)
        with pytest.raises(KeyboardInterrupt):
            schedules.fire_due()
    assert len(jobs_of(service, made["id"])) == 1
    assert events_of(service) == []
    assert schedules.fire_due() == 1
    assert len(jobs_of(service, made["id"])) == 1
    assert events_of(service) == [("schedule.fired", None)]


def test_a_job_that_is_refused_is_told_and_the_next_time_comes(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))["id"]
    made = scheduled(service, dataset)
    assert service.http.delete(f"/v1/datasets/{dataset}").status_code == 204
    make_due(service, made["id"])
    assert service.app.state.services.schedules.fire_due() == 0
    shown = service.http.get(f"/v1/schedules/{made['id']}").json()
    assert (shown["last_outcome"], shown["last_detail"]) == ("failed", "no version of the data set is ready")
    assert shown["next_fire_at"] > shown["last_fire_at"]


def test_a_schedule_is_paused_changed_and_deleted(any_service: InProcessService) -> None:
    http, schedules = any_service.http, any_service.app.state.services.schedules
    dataset = any_service.push(jsonl(sums(20)))["id"]
    with Client(str(http.base_url)) as client:
        made = client.schedules.create("n", "30 1 * * 1-5", dataset, 3, timezone="Europe/Berlin", gradients=SMALL)
        assert [one.id for one in client.schedules.list()] == [made.id]
        assert client.schedules.update(made.id, paused=True).next_fire_at is None
        make_due(any_service, made.id)
        assert schedules.fire_due() == 0
        resumed = client.schedules.update(made.id, paused=False)
        assert resumed.next_fire_at is not None
        assert schedules.fire_due() == 0, "what was missed while it was paused is not made up for"
        stale = http.patch(f"/v1/schedules/{made.id}", json={"name": "x"}, headers={"If-Match": 'W/"1"'})
        assert stale.status_code == 412
        client.schedules.delete(made.id)
        client.schedules.delete(made.id)
        assert http.get(f"/v1/schedules/{made.id}").status_code == 404
    body: dict[str, Any] = {"name": "n", "cron": "0 2 * * *", "job": {"dataset_id": dataset, "budget": {"count": 3}}}
    key = {"Idempotency-Key": "one"}
    twice = [http.post("/v1/schedules", json=body, headers=key) for _ in range(2)]
    assert twice[0].json()["id"] == twice[1].json()["id"]
    for change, pointer in (
        ({"cron": "0 2 30 2 *"}, "#/cron"),
        ({"cron": "* * * * * *"}, "#/cron"),
        ({"cron": "61 2 * * *"}, "#/cron"),
        ({"cron": "not a cron at all"}, "#/cron"),
        ({"timezone": "Mars/Olympus"}, "#/timezone"),
        ({"timezone": "../../etc/passwd"}, "#/timezone"),
        ({"job": {**body["job"], "method": "less"}}, "#/job/targets"),
    ):
        refused = http.post("/v1/schedules", json={**body, **change})
        assert refused.status_code == 422, (change, refused.text)
        assert pointer is None or refused.json()["errors"][0]["pointer"] == pointer, refused.text


def test_times_are_those_of_the_zone_whatever_the_clocks_do() -> None:
    def following(cron: str, after: str) -> str:
        return next_time(cron, "Europe/Berlin", datetime.fromisoformat(after)).astimezone(UTC).isoformat()

    assert following("0 2 * * *", "2026-01-10T12:00:00+00:00") == "2026-01-11T01:00:00+00:00"
    assert following("0 2 * * *", "2026-07-10T12:00:00+00:00") == "2026-07-11T00:00:00+00:00"
    # The hour that is skipped in spring is due at once after it, and the one that comes twice in autumn once.
    assert following("30 2 * * *", "2026-03-28T12:00:00+00:00") == "2026-03-29T01:00:00+00:00"
    autumn = following("30 2 * * *", "2026-10-24T12:00:00+00:00")
    assert following("30 2 * * *", autumn)[:10] == "2026-10-26"
    with pytest.raises(ServiceError):
        next_time("0 2 31 2 *", "UTC", datetime(2026, 1, 1, tzinfo=UTC))
