"""A job that failed, was cancelled or expired is queued again as another one, and what is done is not done again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from app.persistence.repositories import Units
from app.persistence.tables import Job
from app.status import UnitKind, UnitState
from spice_select.client import Client
from spice_select.errors import ClientError
from tests.fixtures.service import InProcessService, jsonl, sums

PARTS: dict[str, Any] = {"selection": {"scope": {"kind": "partitioned", "parts": 3}}, "budget": {"count": 6}}


def commits(service: InProcessService, job_id: str) -> dict[int | None, tuple[str, str | None]]:
    """State of each part of a job, and the unit whose work it took over."""
    with service.runner.database.read() as session:
        return {
            unit.shard: (unit.state, commit.result.get("adopted_from"))
            for unit, commit in Units(session).part_commits(job_id)
        }


def run_one(service: InProcessService) -> None:
    """Do the unit that is next."""
    claim = service.runner.claim_next()
    assert claim is not None
    service.runner.run_claim(claim)


def fail_selection(service: InProcessService, job_id: str) -> None:
    """Let the selection of a job, which is next, fail for good."""
    claim = service.runner.units.claim_next("somebody")
    assert claim is not None
    assert (claim.kind, claim.job_id) == (UnitKind.SELECT, job_id)
    service.runner.units.fail(claim, "pool-invalid", "a planted fault")


def test_a_failed_job_is_done_again_from_where_it_stood(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(30)))["id"]
    asked: dict[str, Any] = {
        "name": "nightly",
        "metadata": {"team": "a"},
        "priority": 3,
        "deadline_seconds": 3600.0,
        **PARTS,
    }
    first = any_service.submit(dataset, **asked)
    path = f"/v1/jobs/{first['id']}/retry"
    early = any_service.http.post(path)
    assert (early.status_code, early.json()["code"]) == (409, "conflict-state")
    while len(commits(any_service, first["id"])) < 3:
        run_one(any_service)
    fail_selection(any_service, first["id"])
    ended = any_service.job(first["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "pool-invalid")

    answer = any_service.http.post(path, headers={"Idempotency-Key": "again"})
    assert answer.status_code == 202, answer.text
    again = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{again['id']}"
    assert (again["retry_of"], again["status"], again["gradients_reused"]) == (first["id"], "queued", True)
    same = ("name", "metadata", "priority", "config", "dataset_id", "gradient_set_id")
    assert {name: again[name] for name in same} == {name: ended[name] for name in same}
    assert again["deadline_at"] > ended["deadline_at"]
    repeated = any_service.http.post(path, headers={"Idempotency-Key": "again"})
    assert (repeated.json()["id"], repeated.headers["Idempotency-Replayed"]) == (again["id"], "true")
    events = any_service.http.get(f"/v1/jobs/{again['id']}/events").json()["data"]
    assert events[0]["data"]["retry_of"] == first["id"]

    taken = commits(any_service, again["id"])
    assert len(taken) == 3
    assert all(state == UnitState.DONE and earlier for state, earlier in taken.values())
    assert any_service.drain() == 1, "only the selection is left to do"
    whole = any_service.submit(dataset, **asked)
    any_service.drain()
    picks = [
        [row["source_row"] for row in any_service.http.get(f"/v1/jobs/{job}/selection").json()["data"]]
        for job in (again["id"], whole["id"])
    ]
    assert picks[0] == picks[1]
    assert len(picks[0]) == 6
    assert any_service.job(first["id"]) == ended, "the earlier job stays as it ended"
    done = any_service.http.post(f"/v1/jobs/{again['id']}/retry")
    assert (done.status_code, done.json()["code"]) == (409, "conflict-state")


def test_a_cancelled_job_keeps_its_target_rows_and_measures_only_what_is_left(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(30)))["id"]
    first = service.submit(dataset, targets=[{"name": "sums", "rows": sums(3, 500)}])
    datasets = len(service.http.get("/v1/datasets?limit=100").json()["data"])
    run_one(service)
    service.http.post(f"/v1/jobs/{first['id']}/cancel")
    with Client(str(service.http.base_url)) as client:
        again = client.jobs.retry(first["id"])
        assert again.retry_of == first["id"]
        assert service.job(again.id)["config"] == first["config"]
        assert len(service.http.get("/v1/datasets?limit=100").json()["data"]) == datasets
        assert service.drain() == 2, "one of the two gradient units was done; the selection is the other that is left"
        assert client.jobs.get(again.id).status == "succeeded"
        assert {pick.target for pick in client.jobs.selection(again.id)} == {"sums"}
        with pytest.raises(ClientError) as unknown:
            client.jobs.retry("job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC")
        assert unknown.value.code == "not-found"


def test_what_is_gone_or_of_a_newer_release_is_refused(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))["id"]
    job = service.submit(dataset)["id"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    with service.runner.database.write() as session:
        config = {**session.get_one(Job, job).config, "of_a_newer_release": 1}
        session.execute(update(Job).where(Job.id == job).values(config=config))
    newer = service.http.post(f"/v1/jobs/{job}/retry")
    assert (newer.status_code, newer.json()["code"]) == (409, "newer-settings")
    with service.runner.database.write() as session:
        del config["of_a_newer_release"]
        session.execute(update(Job).where(Job.id == job).values(config=config))
    assert service.http.delete(f"/v1/datasets/{dataset}").status_code == 204
    gone = service.http.post(f"/v1/jobs/{job}/retry")
    assert (gone.status_code, gone.json()["code"]) == (404, "not-found")
