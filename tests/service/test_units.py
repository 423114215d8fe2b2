"""Leases, epochs, strikes: what keeps an accepted job from being lost or done twice. On both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from app.persistence.repositories import Units
from app.persistence.tables import Unit, UnitCommit
from app.persistence.types import clock
from app.services.units.commits import Outcome
from app.services.units.leases import Claim, Report
from app.services.units.service import UnitService
from app.settings import Settings
from app.status import UnitKind
from spice_select.ingest import SHARD_ROWS
from tests.fixtures.service import InProcessService, jsonl, sums

NOTHING = Report(phase="computing_gradients", completed=0, total=None, measure="samples", rate=None)
OUTCOME = Outcome("0" * 64, {"samples": 1})


@pytest.fixture
def job(any_service: InProcessService) -> dict[str, Any]:
    dataset = any_service.push(jsonl(sums(6)))
    return any_service.submit(dataset["id"])


def units_with(service: InProcessService, **changes: Any) -> UnitService:
    settings = Settings.model_validate({**service.settings.model_dump(), **changes})
    return UnitService(service.runner.database, settings)


def expire_leases(service: InProcessService) -> None:
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.state == "leased").values(lease_until=clock(-1)))


def unit_row(service: InProcessService, unit_id: str) -> Unit:
    with service.runner.database.read() as session:
        row = Units(session).get(unit_id)
    assert row is not None
    return row


def claim_next(units: UnitService, owner: str = "a") -> Claim:
    claim = units.claim_next(owner)
    assert claim is not None
    return claim


def test_a_unit_is_claimed_once(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    claim = claim_next(units)
    assert (claim.kind, claim.epoch, claim.attempt) == (UnitKind.GRADIENTS, 1, 1)
    assert units.claim(claim.unit_id, "b") is None
    assert units.claim_next("b") is None, "the selection waits for the gradients"
    assert any_service.job(job["id"])["status"] == "running"


def test_a_set_is_ready_with_its_last_shard(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(SHARD_ROWS + 1)))
    made = any_service.submit(dataset["id"])
    units, path = any_service.runner.units, f"/v1/gradient-sets/{made['gradient_set_id']}"
    assert any_service.runner.commit(claim_next(units), OUTCOME)
    assert any_service.http.get(path).json()["status"] == "computing"
    assert any_service.runner.commit(claim_next(units), OUTCOME)
    assert any_service.http.get(path).json()["status"] == "ready"


def test_of_many_claimants_one_wins(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    with any_service.runner.database.read() as session:
        unit_id = Units(session).runnable_ids(1, 3)[0]
    start = threading.Barrier(8)

    def claim(name: int) -> Claim | None:
        start.wait()
        return units.claim(unit_id, f"worker-{name}")

    with ThreadPoolExecutor(8) as pool:
        won = [claim for claim in pool.map(claim, range(8)) if claim is not None]
    assert len(won) == 1
    assert unit_row(any_service, unit_id).owner == won[0].owner


def test_an_expired_lease_is_claimable_and_its_old_holder_is_fenced_off(
    any_service: InProcessService, job: dict[str, Any]
) -> None:
    units, commit = any_service.runner.units, any_service.runner.commit
    zombie = claim_next(units, "zombie")
    expire_leases(any_service)
    heir = claim_next(units, "heir")
    assert (heir.unit_id, heir.epoch) == (zombie.unit_id, zombie.epoch + 1)
    assert units.heartbeat(zombie, NOTHING).held is False
    assert commit(zombie, OUTCOME) is False
    units.fail(zombie, "internal", "from beyond the grave")
    units.release(zombie)
    assert unit_row(any_service, heir.unit_id).state == "leased", "the zombie has changed nothing"
    assert units.heartbeat(heir, NOTHING).held is True
    assert commit(heir, OUTCOME) is True
    assert commit(heir, OUTCOME) is True, "a retry after a lost answer is a success"
    with any_service.runner.database.read() as session:
        assert [commit.owner for commit in session.scalars(select(UnitCommit)) if commit.artifact_sha256] == ["heir"]


def test_a_heartbeat_keeps_the_lease(any_service: InProcessService, job: dict[str, Any]) -> None:
    claim = claim_next(any_service.runner.units)
    expire_leases(any_service)
    report = Report(phase="computing_gradients", completed=4, total=None, measure="samples", rate=2.0)
    assert any_service.runner.units.heartbeat(claim, report).held is True
    assert any_service.runner.units.claim_next("b") is None
    progress = any_service.job(job["id"])["progress"]
    assert (progress["completed"], progress["total"], progress["unit"]) == (4, 6, "samples")
    assert (progress["rate_per_second"], progress["eta_seconds"]) == (2.0, 1.0)
    assert any_service.job(job["id"])["phase"] == "computing_gradients"


def test_a_unit_that_keeps_losing_workers_ends_the_job(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    for _ in range(3):
        claim_next(units)
        expire_leases(any_service)
    assert units.claim_next("fourth") is None
    units.sweep()
    ended = any_service.job(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker-killed")
    sets = any_service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()
    assert sets["status"] == "failed"
    again = any_service.submit(job["dataset_id"])
    any_service.drain()
    assert any_service.job(again["id"])["status"] == "succeeded", "a new job tries again"


def test_a_unit_given_back_counts_no_attempt(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    for _ in range(10):
        claim = claim_next(units)
        assert claim.attempt == 1
        units.release(claim)
    any_service.drain()
    assert any_service.job(job["id"])["status"] == "succeeded"


def test_attempts_back_off_and_end(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = units_with(any_service, max_attempts=3, backoff_seconds=1000.0)
    units.fail(claim_next(units), "internal", "boom")
    assert units.claim_next("a") is None, "not before the backoff is over"
    for attempt in (2, 3):
        with any_service.runner.database.write() as session:
            session.execute(update(Unit).where(Unit.kind == "gradients").values(not_before=clock(-1)))
        claim = claim_next(units)
        assert claim.attempt == attempt
        units.fail(claim, "internal", "boom")
    ended = any_service.job(job["id"])
    assert (ended["status"], ended["error"]["code"], ended["error"]["detail"]) == ("failed", "internal", "boom")
    events = any_service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert [event["data"]["again"] for event in events if event["type"] == "unit.failed"] == [True, True, False]


def test_bad_data_fails_at_once(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    units.fail(claim_next(units), "pool-empty", "nothing left")
    ended = any_service.job(job["id"])
    assert (ended["status"], ended["error"]["code"], ended["error"]["retryable"]) == ("failed", "pool-empty", False)


def test_messages_are_sent_again_until_a_worker_comes(any_service: InProcessService, job: dict[str, Any]) -> None:
    notified: list[str] = []
    units = units_with(any_service, notify_seconds=1000.0)
    assert units.notify(notified.append) == 1
    assert units.notify(notified.append) == 0, "notified lately"
    assert units_with(any_service, notify_seconds=1e-6).notify(notified.append) == 1
    assert notified[0] == notified[1]
    assert any_service.runner.run(notified[0]) is True
    assert any_service.runner.run(notified[1]) is False, "a message that comes twice is harmless"
    assert any_service.runner.run("unit_forged") is False


def test_busy_workers_are_not_notified_again_while_messages_wait(
    any_service: InProcessService, job: dict[str, Any]
) -> None:
    notified: list[str] = []
    units = units_with(any_service, notify_seconds=1e-6)
    assert units.notify(notified.append, backlog=lambda: 5) == 1, "the first message of a unit is sent all the same"
    assert units.notify(notified.append, backlog=lambda: 1) == 0
    assert units.notify(notified.append, backlog=lambda: 0) == 1, "nothing waits, so the first one may have been lost"


def test_a_broker_that_fails_leaves_the_unit_to_be_notified(any_service: InProcessService, job: dict[str, Any]) -> None:
    def refuse(_: str) -> None:
        raise ConnectionError("no broker")

    units = units_with(any_service, notify_seconds=1000.0)
    with pytest.raises(ConnectionError):
        units.notify(refuse)
    assert units.notify(lambda _: None) == 1


def test_two_dispatchers_never_ring_the_same_unit(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(4)))
    for count in range(1, 4):
        any_service.submit(dataset["id"], gradients={"sketch_dim": count, "max_length": 64})
    units = units_with(any_service, notify_seconds=1000.0)
    notified: list[str] = []
    start = threading.Barrier(4)

    def dispatch(_: int) -> None:
        start.wait()
        for _ in range(3):
            units.notify(notified.append)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(dispatch, range(4)))
    assert sorted(notified) == sorted(set(notified))
    assert len(notified) == 3


def test_a_worker_leaves_units_of_a_newer_version_alone(any_service: InProcessService, job: dict[str, Any]) -> None:
    with any_service.runner.database.write() as session:
        session.execute(update(Unit).values(schema_version=99))
    assert any_service.runner.units.claim_next("old") is None


def test_a_stop_without_a_worker_ends_the_job(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    any_service.runner.run_claim(claim_next(units))
    selection = claim_next(units)
    assert selection.kind == UnitKind.SELECT
    assert any_service.http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelling"
    expire_leases(any_service)
    units.sweep()
    assert any_service.job(job["id"])["status"] == "cancelled"
    assert units.heartbeat(selection, NOTHING).held is False


def test_a_cancelled_job_is_never_turned_into_another_state(any_service: InProcessService, job: dict[str, Any]) -> None:
    units = any_service.runner.units
    shard = claim_next(units)
    assert any_service.http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
    assert units.heartbeat(shard, NOTHING).stop == "cancelled", "the shard's worker learns that nobody waits"
    assert any_service.runner.commit(shard, OUTCOME) is True, "a late shard still counts for its set"
    assert any_service.job(job["id"])["status"] == "cancelled"
    assert any_service.drain() == 0
