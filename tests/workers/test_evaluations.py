"""The units of an evaluation: any order, any loss, any worker, and always the same report."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.persistence.tables import Evaluation, Unit, UnitCommit
from app.persistence.types import clock
from app.services.units.leases import Claim, Report
from app.status import EvaluationStatus, UnitKind, UnitState
from tests.fixtures.service import InProcessService
from tests.service.test_evaluations import QUICK, finished

TRAININGS = 8


@pytest.fixture(scope="module")
def made(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InProcessService, Any]]:
    """One service with a finished job for all tests, and the report of an evaluation that nothing disturbed."""
    folder = tmp_path_factory.mktemp("evaluations")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data") as service:
        job, holdout = finished(service)
        body = {"job_id": job["id"], "holdout_dataset_id": holdout["id"], **QUICK}
        service.body = body  # type: ignore[attr-defined]
        calm = evaluation(service)
        service.drain()
        yield service, report(service, calm)


def evaluation(service: InProcessService, **changes: Any) -> str:
    response = service.http.post("/v1/evaluations", json={**service.body, **changes})  # type: ignore[attr-defined]
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def read(service: InProcessService, evaluation_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get(f"/v1/evaluations/{evaluation_id}").json()
    return found


def report(service: InProcessService, evaluation_id: str) -> dict[str, Any]:
    found = read(service, evaluation_id)
    assert found["status"] == "succeeded", found
    return {**found["result"], "arms": [{**arm, "seconds": 0} for arm in found["result"]["arms"]]}


def units(service: InProcessService, evaluation_id: str, kind: UnitKind = UnitKind.EVALUATION_TRAINING) -> list[Unit]:
    query = select(Unit).where(Unit.evaluation_id == evaluation_id, Unit.kind == kind).order_by(Unit.shard)
    with service.runner.database.read() as session:
        return list(session.scalars(query))


def claimed(service: InProcessService) -> Claim:
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    return claim


def step(service: InProcessService, kind: UnitKind) -> Claim:
    claim = claimed(service)
    assert claim.kind == kind
    service.runner.run_claim(claim)
    return claim


def artifact(service: InProcessService, unit_id: str) -> Path:
    with service.runner.database.read() as session:
        commit = session.scalars(select(UnitCommit).where(UnitCommit.unit_id == unit_id)).one()
    return service.runner.store.path("proj_default", commit.artifact_sha256 or "")


@pytest.mark.parametrize("order", range(2))
def test_trainings_in_any_order_make_the_same_report(made: tuple[InProcessService, Any], order: int) -> None:
    service, calm = made
    found = evaluation(service)
    (last,) = units(service, found, UnitKind.EVALUATION_REPORT)
    assert not service.runner.run(last.id), "the report waits for the plan"
    step(service, UnitKind.EVALUATION_PLAN)
    ids = [unit.id for unit in units(service, found)]
    assert len(ids) == TRAININGS
    random.Random(order).shuffle(ids)
    for unit_id in ids:
        assert not service.runner.run(last.id), "the report waits for every training"
        assert service.runner.run(unit_id)
    assert service.runner.run(last.id)
    assert report(service, found) == calm


def test_a_killed_workers_training_is_done_again_and_no_other(made: tuple[InProcessService, Any]) -> None:
    service, calm = made
    found = evaluation(service)
    step(service, UnitKind.EVALUATION_PLAN)
    for _ in range(3):
        step(service, UnitKind.EVALUATION_TRAINING)
    killed = claimed(service)
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == killed.unit_id).values(lease_until=clock(-1)))
    service.drain()
    assert report(service, found) == calm
    assert sorted(unit.epoch for unit in units(service, found)) == [1] * (TRAININGS - 1) + [2]
    assert next(unit for unit in units(service, found) if unit.epoch == 2).id == killed.unit_id
    # Woken again, the dead worker changes nothing: its epoch is over.
    before = read(service, found)
    service.runner.run_claim(killed)
    assert read(service, found) == before
    with service.runner.database.read() as session:
        commits = list(session.scalars(select(UnitCommit).where(UnitCommit.unit_id == killed.unit_id)))
    assert [commit.epoch for commit in commits] == [2]


@pytest.mark.parametrize("how", ["lost", "rotten"])
def test_lost_losses_are_made_again_and_no_others(made: tuple[InProcessService, Any], how: str) -> None:
    service, calm = made
    found = evaluation(service, name=how)
    step(service, UnitKind.EVALUATION_PLAN)
    for _ in range(TRAININGS):
        step(service, UnitKind.EVALUATION_TRAINING)
    victim = units(service, found)[2]
    path = artifact(service, victim.id)
    if how == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    step(service, UnitKind.EVALUATION_REPORT)
    assert [unit.generation for unit in units(service, found)] == [1, 1, 2, 1, 1, 1, 1, 1]
    service.drain()
    assert report(service, found) == calm
    events = service.http.get(f"/v1/evaluations/{found}/events").json()["data"]
    assert [event["data"]["units"] for event in events if event["type"] == "artifacts.lost"] == [[victim.id]]


def test_a_lost_plan_is_made_again_and_its_trainings_are_kept(made: tuple[InProcessService, Any]) -> None:
    service, calm = made
    found = evaluation(service)
    step(service, UnitKind.EVALUATION_PLAN)
    for _ in range(2):
        step(service, UnitKind.EVALUATION_TRAINING)
    (plan,) = units(service, found, UnitKind.EVALUATION_PLAN)
    artifact(service, plan.id).unlink()
    step(service, UnitKind.EVALUATION_TRAINING)  # finds it gone
    step(service, UnitKind.EVALUATION_PLAN)
    service.drain()
    assert report(service, found) == calm
    assert [unit.generation for unit in units(service, found)] == [1] * TRAININGS


def test_a_cancelled_training_stops_at_the_next_heartbeat(made: tuple[InProcessService, Any]) -> None:
    service, _ = made
    found = evaluation(service)
    step(service, UnitKind.EVALUATION_PLAN)
    claim = claimed(service)
    told = Report("training", 1, None, "steps", None)
    assert service.runner.units.heartbeat(claim, told).stop is None
    assert service.http.post(f"/v1/evaluations/{found}/cancel").status_code == 202
    with service.runner.database.read() as session:
        left = list(session.execute(select(Unit.kind, Unit.state).where(Unit.evaluation_id == found)))
    assert {kind: state for kind, state in left if state != UnitState.DEAD} == {
        UnitKind.EVALUATION_PLAN: UnitState.DONE
    }
    assert len(left) == 2 + TRAININGS
    reply = service.runner.units.heartbeat(claim, told)
    assert (reply.held, reply.stop) == (False, "cancelled")
    service.runner.units.release(claim)
    assert service.drain() == 0
    assert read(service, found)["status"] == "cancelled"


def test_what_an_older_version_left_open_is_swept(made: tuple[InProcessService, Any]) -> None:
    service, _ = made
    ended, going = evaluation(service), evaluation(service)
    with service.runner.database.write() as session:
        cancelled = {"status": EvaluationStatus.CANCELLED, "finished_at": clock()}
        session.execute(update(Evaluation).where(Evaluation.id == ended).values(**cancelled))
    service.runner.units.sweep()
    for found, state in ((ended, UnitState.DEAD), (going, UnitState.PENDING)):
        kinds = (UnitKind.EVALUATION_PLAN, UnitKind.EVALUATION_REPORT)
        assert [unit.state for kind in kinds for unit in units(service, found, kind)] == [state] * 2
    service.drain()


def test_a_training_that_diverges_says_so(made: tuple[InProcessService, Any]) -> None:
    service, _ = made
    # Weight decay of ten at a rate of ten multiplies every weight by -99 a step.
    wild = {**QUICK["training"], "learning_rate": 10.0, "weight_decay": 10.0, "epochs": 40.0}
    found = evaluation(service, training=wild)
    service.drain()
    ended = read(service, found)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "config-invalid")
    assert "lower learning_rate" in ended["error"]["detail"]
    assert service.http.get(f"/v1/evaluations/{found}/events").json()["data"][-1]["type"] == "evaluation.failed"
    assert {unit.state for unit in units(service, found)} <= {UnitState.DONE, UnitState.DEAD}


def test_two_choices_of_one_size_are_not_taken_for_each_other(made: tuple[InProcessService, Any]) -> None:
    service, calm = made
    body = service.body  # type: ignore[attr-defined]
    first = service.job(body["job_id"])
    other = service.submit(first["dataset_id"], budget={"count": 8}, method="random", seed=5)
    service.drain()
    both = [evaluation(service), evaluation(service, job_id=other["id"])]
    waiting = [unit.id for found in both for unit in units(service, found, UnitKind.EVALUATION_PLAN)]
    assert all(service.runner.run(unit_id) for unit_id in waiting)
    # In turns, so that each training finds the rows of the other evaluation encoded.
    for pair in zip(*(units(service, found) for found in both), strict=True):
        assert all(service.runner.run(unit.id) for unit in pair)
    service.drain()
    ours, theirs = (report(service, found) for found in both)
    assert ours == calm
    assert theirs["arms"][0]["loss_by_seed"] != calm["arms"][0]["loss_by_seed"]
    assert theirs["arms"][1]["loss_by_seed"] == calm["arms"][1]["loss_by_seed"], "the same draws"


def test_nothing_left_to_train_on_says_so(made: tuple[InProcessService, Any]) -> None:
    service, _ = made
    job = service.job(service.body["job_id"])  # type: ignore[attr-defined]
    rows = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").content
    copy = service.push(rows)
    found = evaluation(service, holdout_dataset_id=copy["id"])
    service.drain()
    ended = read(service, found)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "config-invalid")
    assert "near-duplicate" in ended["error"]["detail"]


def test_the_model_is_left_as_it_was(made: tuple[InProcessService, Any]) -> None:
    service, calm = made
    for tuning in ("lora", "full"):
        found = evaluation(service, training={**QUICK["training"], "tuning": tuning})
        service.drain()
        assert read(service, found)["status"] == "succeeded"
        assert report(service, found)["loss_at_start"] == calm["loss_at_start"]
    assert report(service, found) == calm
