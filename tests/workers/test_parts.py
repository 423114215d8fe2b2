"""The first round of a pool cut into parts: a unit each, any order, any loss, and always the choice of one process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

import spice_select as ss
from app.persistence.repositories import scheduling
from app.persistence.tables import Job, Unit, UnitCommit
from app.persistence.types import clock
from app.services.units.leases import Claim, Report
from app.status import UnitKind, UnitState
from spice_select.pipeline.run import run
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.heartbeat import Heartbeat

ROWS, PARTS, COUNT = 40, 4, 9
SELECTION = {"scope": {"kind": "partitioned", "parts": PARTS}}
COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What the library chooses in one process: files and numbers."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "pool.jsonl").write_bytes(jsonl(sums(ROWS)))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(sketch_dim=4, max_length=128),
        selection=ss.SelectionConfig.model_validate({"budget": {"count": COUNT}, **SELECTION}),
    )
    made = run(folder / "pool.jsonl", config, folder / "out")
    return {name: (folder / "out" / name).read_bytes() for name in COMPARED}, made.summary


@pytest.fixture
def job(service: InProcessService) -> dict[str, Any]:
    return submit(service)


def submit(service: InProcessService, **changes: Any) -> dict[str, Any]:
    dataset = service.push(jsonl(sums(ROWS)))
    return service.submit(dataset["id"], **{"budget": {"count": COUNT}, "selection": SELECTION, **changes})


def units_of(service: InProcessService, kind: UnitKind) -> list[Unit]:
    with service.runner.database.read() as session:
        return list(session.scalars(select(Unit).where(Unit.kind == kind).order_by(Unit.shard)))


def claimed(service: InProcessService) -> Claim:
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    return claim


def run_next(service: InProcessService, kind: UnitKind) -> None:
    claim = claimed(service)
    assert claim.kind == kind
    service.runner.run_claim(claim)


def part_artifacts(service: InProcessService) -> list[Path]:
    with service.runner.database.read() as session:
        parts = select(UnitCommit).join(Unit, Unit.id == UnitCommit.unit_id).where(Unit.kind == UnitKind.SELECT_PART)
        made = list(session.scalars(parts))
    return [service.runner.store.path("proj_default", commit.artifact_sha256 or "") for commit in made]


def files(service: InProcessService, job_id: str) -> dict[str, bytes]:
    return {name: service.http.get(f"/v1/jobs/{job_id}/files/{name}").content for name in COMPARED}


def events(service: InProcessService, job_id: str) -> list[str]:
    return [event["type"] for event in service.http.get(f"/v1/jobs/{job_id}/events").json()["data"]]


@pytest.mark.parametrize("order", range(3))
def test_parts_in_any_order_make_the_choice_of_one_process(
    service: InProcessService, job: dict[str, Any], alone: tuple[dict[str, bytes], dict[str, Any]], order: int
) -> None:
    run_next(service, UnitKind.GRADIENTS)
    ids = [unit.id for unit in units_of(service, UnitKind.SELECT_PART)]
    (selection,) = units_of(service, UnitKind.SELECT)
    assert len(ids) == PARTS
    random.Random(order).shuffle(ids)
    for unit_id in ids:
        assert not service.runner.run(selection.id), "the second round waits for the first"
        assert service.runner.run(unit_id)
    assert events(service, job["id"])[-1] == "job.parts_ready"
    assert service.runner.run(selection.id)
    ended = service.job(job["id"])
    assert ended["status"] == "succeeded", ended
    assert files(service, job["id"]) == alone[0]
    for number in ("utility", "certificate", "scope", "stop_reason", "tokens_selected"):
        assert ended["result"][number] == alone[1][number], number
    assert ended["result"]["scope"]["kind"] == "partitioned"
    assert ended["result"]["seconds"]["selecting_parts"] > 0
    assert events(service, job["id"]).count("job.parts_ready") == 1


def test_progress_counts_the_parts(service: InProcessService, job: dict[str, Any]) -> None:
    run_next(service, UnitKind.GRADIENTS)
    assert service.job(job["id"])["phase"] == "waiting_for_worker"
    run_next(service, UnitKind.SELECT_PART)
    claim = claimed(service)
    service.runner.units.heartbeat(claim, Report("selecting", COUNT // 2, None, "picks", 3.0))
    found = service.job(job["id"])
    assert (found["status"], found["phase"]) == ("running", "selecting_parts")
    progress = found["progress"]
    assert (progress["completed"], progress["total"], progress["unit"]) == (1, PARTS, "parts")
    begun = 1 + (COUNT // 2) / COUNT
    spent = begun / progress["rate_per_second"]
    assert 0 < spent < 60
    assert progress["eta_seconds"] == pytest.approx((PARTS - begun) / begun * spent, abs=0.1), "shown to a tenth"


@pytest.mark.parametrize("harm", ["deleted", "flipped"])
def test_a_lost_choice_of_a_part_is_made_again(
    service: InProcessService, job: dict[str, Any], alone: tuple[dict[str, bytes], dict[str, Any]], harm: str
) -> None:
    for kind in (UnitKind.GRADIENTS, *[UnitKind.SELECT_PART] * PARTS):
        run_next(service, kind)
    path = part_artifacts(service)[2]
    before = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert service.drain() == 3, "the second round finds out, the part is chosen again, the second round ends"
    assert path.read_bytes() == before, "the same bits come out"
    assert sorted(unit.generation for unit in units_of(service, UnitKind.SELECT_PART)) == [1] * (PARTS - 1) + [2]
    assert files(service, job["id"]) == alone[0]
    assert service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()["status"] == "ready"


def test_a_part_that_finds_a_gradient_shard_rotten_waits_for_it(
    service: InProcessService, job: dict[str, Any], alone: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    run_next(service, UnitKind.GRADIENTS)
    with service.runner.database.read() as session:
        digest = session.scalars(
            select(UnitCommit.artifact_sha256).where(UnitCommit.artifact_sha256.is_not(None))
        ).one()
    service.runner.store.path("proj_default", digest or "").write_bytes(b"rotten")
    assert service.drain() == 1 + 1 + PARTS + 1
    assert files(service, job["id"]) == alone[0]


@pytest.mark.parametrize("outcome", ["cancelled", "expired"])
def test_a_stop_in_the_first_round_ends_the_job_and_tells_the_workers(
    service: InProcessService, job: dict[str, Any], outcome: str
) -> None:
    run_next(service, UnitKind.GRADIENTS)
    run_next(service, UnitKind.SELECT_PART)
    claim = claimed(service)
    assert service.runner.units.heartbeat(claim, Report("selecting", 1, None, None, None)).stop is None
    if outcome == "cancelled":
        assert service.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    else:
        with service.runner.database.write() as session:
            session.execute(update(Job).values(deadline_at=clock(-1)))
        service.runner.units.sweep()
    assert service.job(job["id"])["status"] == outcome
    with service.runner.database.read() as session:
        left = set(session.scalars(select(Unit.state).where(Unit.job_id == job["id"])))
    assert left == {UnitState.DONE, UnitState.DEAD}, "nothing is left that can never run"
    assert service.runner.units.heartbeat(claim, Report("selecting", 1, None, None, None)).stop == "cancelled"
    service.runner.run_claim(claim)
    assert service.drain() == 0, "nobody wants the other parts any more"
    assert service.job(job["id"])["status"] == outcome


def test_a_part_that_is_told_to_stop_stores_nothing(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_next(service, UnitKind.GRADIENTS)
    claim = claimed(service)
    monkeypatch.setattr(Heartbeat, "should_stop", lambda _self: True)
    service.runner.run_claim(claim)
    assert not part_artifacts(service)
    unit = units_of(service, UnitKind.SELECT_PART)[claim.shard or 0]
    assert (unit.state, unit.attempts) == (UnitState.PENDING, 0)


def test_a_part_that_fails_is_tried_again_and_ends_the_job_when_it_never_succeeds(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    handler = service.runner.handlers[UnitKind.SELECT_PART]
    real = handler.run
    stubborn = False

    def sometimes(claim: Claim, *args: Any) -> Any:
        if claim.shard == 2 and (stubborn or len(tries) < 2):
            tries.append(1)
            raise RuntimeError("made up")
        return real(claim, *args)

    monkeypatch.setattr(handler, "run", sometimes)
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"
    assert events(service, job["id"]).count("unit.failed") == 2
    stubborn = True
    second = submit(service)
    assert second["gradients_reused"] is True
    service.drain()
    ended = service.job(second["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "internal")
    assert units_of(service, UnitKind.SELECT)[-1].state == UnitState.DEAD
    assert events(service, second["id"]).count("job.failed") == 1
    assert service.drain() == 0


def test_a_part_that_kills_its_workers_ends_the_job(service: InProcessService, job: dict[str, Any]) -> None:
    run_next(service, UnitKind.GRADIENTS)
    first, *_ = units_of(service, UnitKind.SELECT_PART)
    for _ in range(service.settings.max_lost_leases):
        assert service.runner.units.claim(first.id, "doomed") is not None
        with service.runner.database.write() as session:
            session.execute(update(Unit).where(Unit.id == first.id).values(lease_until=clock(-1)))
    service.runner.units.sweep()
    ended = service.job(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker-killed")


def test_a_part_that_lost_its_lease_is_discarded(
    service: InProcessService, job: dict[str, Any], alone: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    run_next(service, UnitKind.GRADIENTS)
    claim = claimed(service)
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == claim.unit_id).values(lease_until=clock(-1)))
    service.runner.owner = "fast"
    assert service.runner.run(claim.unit_id)
    service.runner.run_claim(claim)
    with service.runner.database.read() as session:
        owners = session.scalars(select(UnitCommit.owner).where(UnitCommit.unit_id == claim.unit_id)).all()
    assert owners == ["fast"]
    service.drain()
    assert files(service, job["id"]) == alone[0]


def test_a_worker_of_an_older_version_leaves_parts_and_what_waits_for_them(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(scheduling, "SCHEMA_VERSION", 1)
        assert service.drain() == 1, "gradients are what they were"
        for unit in (*units_of(service, UnitKind.SELECT_PART), *units_of(service, UnitKind.SELECT)):
            assert service.runner.units.claim(unit.id, "old") is None
    assert service.drain() == PARTS + 1


def test_a_job_without_parts_from_an_older_service_is_chosen_in_one_process(
    service: InProcessService, job: dict[str, Any], alone: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    with service.runner.database.write() as session:
        session.execute(delete(Unit).where(Unit.kind == UnitKind.SELECT_PART))
    assert service.drain() == 2
    assert files(service, job["id"]) == alone[0]
    assert "selecting_parts" not in service.job(job["id"])["result"]["seconds"]


def test_fewer_candidates_than_parts_leave_parts_without_a_choice(service: InProcessService) -> None:
    short = {"gradients": {"sketch_dim": 4, "max_length": 40, "overflow": "exclude"}, "budget": {"count": 2}}
    many = submit(service, **short, selection={"scope": {"kind": "partitioned", "parts": ROWS}})
    service.drain()
    ended = service.job(many["id"])
    assert ended["status"] == "succeeded", ended
    assert 0 < ended["result"]["excluded"] < ROWS
    empty = [unit for unit in units_of(service, UnitKind.SELECT_PART) if (unit.shard or 0) >= ended["result"]["pool"]]
    assert len(empty) == ended["result"]["excluded"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"budget": {"tokens": 500}, "selection": SELECTION}, "#/budget/tokens"),
        ({"selection": SELECTION, "must_include": [1]}, "#/must_include"),
        ({"selection": {"scope": {"kind": "partitioned", "parts": 1025}}}, "#/selection/scope/parts"),
    ],
)
def test_what_a_cut_pool_cannot_do_is_refused_before_anything_is_computed(
    service: InProcessService, body: dict[str, Any], pointer: str
) -> None:
    dataset = service.push(jsonl(sums(ROWS)))
    answer = service.http.post("/v1/jobs", json={"dataset_id": dataset["id"], "budget": {"count": 3}, **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "config-invalid"
    assert pointer in answer.text
