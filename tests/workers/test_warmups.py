"""Warm-ups in the service: one unit by content, every shard taken with the same weights, after any loss."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

import spice_select as ss
from app.persistence.repositories import scheduling
from app.persistence.tables import GradientSet, Unit, UnitCommit
from app.persistence.types import clock
from app.services.units.leases import Claim, Report
from app.status import UnitKind, UnitState
from spice_select.ingest import SHARD_ROWS
from spice_select.pipeline import warmup as warmup_files
from spice_select.pipeline.run import run
from spice_select.results.verify import verify_folder
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.run_unit import UnitRunner

ROWS, COUNT = 24, 5
GRADIENTS = {
    "sketch_dim": 4,
    "max_length": 64,
    "targets": "lora",
    "lora_rank": 2,
    "warmup_steps": 3,
    "tuning": {"learning_rate": 1e-2, "step_tokens": 64},
}
COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")


@pytest.fixture
def any_service(any_database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    with InProcessService(any_database_url, tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What the library makes of it in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "pool.jsonl").write_bytes(jsonl(sums(ROWS)))
    config = ss.RunConfig(
        gradients=ss.GradientConfig.model_validate(GRADIENTS),
        selection=ss.SelectionConfig(budget=ss.Budget(count=COUNT)),
    )
    made = run(folder / "pool.jsonl", config, folder / "out")
    return {name: (folder / "out" / name).read_bytes() for name in COMPARED}, made.summary


def settings_of(gradients: dict[str, Any]) -> ss.RunConfig:
    measured = ss.GradientConfig.model_validate(gradients)
    return ss.RunConfig(gradients=measured, selection=ss.SelectionConfig(budget=ss.Budget(count=COUNT)))


def submit(service: InProcessService, **changes: Any) -> dict[str, Any]:
    dataset = service.push(jsonl(sums(ROWS)))
    return service.submit(dataset["id"], **{"budget": {"count": COUNT}, "gradients": GRADIENTS, **changes})


def units_of(service: InProcessService, kind: UnitKind) -> list[Unit]:
    with service.runner.database.read() as session:
        return list(session.scalars(select(Unit).where(Unit.kind == kind).order_by(Unit.id)))


def weights_of(service: InProcessService) -> list[str | None]:
    """Digests of the weights that warm-ups left, oldest first."""
    with service.runner.database.read() as session:
        made = select(UnitCommit).join(Unit, Unit.id == UnitCommit.unit_id).where(Unit.kind == UnitKind.WARMUP)
        return [commit.artifact_sha256 for commit in session.scalars(made.order_by(UnitCommit.committed_at))]


def taken_with(service: InProcessService) -> list[str | None]:
    """Weights that every shard says it was taken with, the latest of each."""
    with service.runner.database.read() as session:
        made = (
            select(UnitCommit)
            .join(Unit, (Unit.id == UnitCommit.unit_id) & (Unit.generation == UnitCommit.generation))
            .where(Unit.kind == UnitKind.GRADIENTS)
        )
        return [commit.result.get("warmup") for commit in session.scalars(made)]


def claimed(service: InProcessService, kind: UnitKind) -> Claim:
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    assert claim.kind == kind
    return claim


def run_next(service: InProcessService, kind: UnitKind) -> None:
    service.runner.run_claim(claimed(service, kind))


def files(service: InProcessService, job_id: str) -> dict[str, bytes]:
    return {name: service.http.get(f"/v1/jobs/{job_id}/files/{name}").content for name in COMPARED}


def events(service: InProcessService, job_id: str) -> list[str]:
    return [event["type"] for event in service.http.get(f"/v1/jobs/{job_id}/events").json()["data"]]


def test_the_choice_after_a_warm_up_is_that_of_one_process(
    any_service: InProcessService, alone: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path
) -> None:
    job = submit(any_service)
    (shard,), (selection,) = units_of(any_service, UnitKind.GRADIENTS), units_of(any_service, UnitKind.SELECT)
    for waits in (shard, selection):
        assert not any_service.runner.run(waits.id), "nothing is measured before the warm-up"
    claim = claimed(any_service, UnitKind.WARMUP)
    any_service.runner.units.heartbeat(claim, Report("warming_up", 1, 3, "steps", 2.0))
    found = any_service.job(job["id"])
    assert (found["status"], found["phase"]) == ("running", "warming_up")
    progress = found["progress"]
    assert (progress["completed"], progress["total"], progress["unit"]) == (1, 3, "steps")
    assert progress["eta_seconds"] == pytest.approx(1.0)
    any_service.runner.run_claim(claim)
    assert any_service.drain() == 2
    ended = any_service.job(job["id"])
    assert ended["status"] == "succeeded", ended
    assert files(any_service, job["id"]) == alone[0]
    assert ended["result"]["warmup"] == alone[1]["warmup"], "the same weights to the last bit"
    assert ended["result"]["seconds"]["warming_up"] > 0
    assert taken_with(any_service) == weights_of(any_service)
    assert events(any_service, job["id"]).count("job.warmed_up") == 1
    any_service.pull(job["id"], tmp_path / "out")
    report = verify_folder(tmp_path / "out")
    assert report.ok, [check for check in report.checks if not check.ok]
    statement = any_service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    named = {item["name"]: item for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert named["proxy-warmup"]["digest"] == {"sha256": weights_of(any_service)[0]}


def test_one_warm_up_serves_every_measurement_of_the_same_pool(any_service: InProcessService) -> None:
    first = submit(any_service)
    other = any_service.submit(first["dataset_id"], gradients={**GRADIENTS, "sketch_dim": 8})
    again = any_service.submit(first["dataset_id"], gradients={**GRADIENTS, "loss": "sum"})
    assert len({job["gradient_set_id"] for job in (first, other, again)}) == 3
    assert len(units_of(any_service, UnitKind.WARMUP)) == 1
    assert any_service.drain() == 1 + 3 + 3
    assert len(weights_of(any_service)) == 1
    assert taken_with(any_service) == weights_of(any_service) * 3
    steps = any_service.submit(first["dataset_id"], gradients={**GRADIENTS, "warmup_steps": 2})
    assert len(units_of(any_service, UnitKind.WARMUP)) == 2, "other steps, other weights"
    assert any_service.drain() == 3
    body = {"dataset_id": first["dataset_id"], "budget": {"count": 2}, "gradients": GRADIENTS}
    estimate = any_service.http.post("/v1/estimates", json=body).json()
    assert (estimate["shards"], estimate["gradients_reused"]) == ({"total": 1, "done": 1}, True)
    reused = any_service.submit(**body)
    assert reused["gradients_reused"] is True
    assert any_service.drain() == 1, "a selection alone"
    assert any_service.job(reused["id"])["result"]["warmup"]["sha256"] == weights_of(any_service)[0]
    assert any_service.job(steps["id"])["result"]["warmup"]["steps"] == 2


def test_a_target_is_measured_after_the_warm_up_on_the_pool(service: InProcessService) -> None:
    pool, target = service.push(jsonl(sums(ROWS))), service.push(jsonl(sums(6, start=500)))
    job = service.submit(pool["id"], gradients=GRADIENTS, method="less", target_dataset_id=target["id"])
    assert service.drain() == 1 + 2 + 1
    assert service.job(job["id"])["status"] == "succeeded"
    assert taken_with(service) == weights_of(service) * 2, "one warm-up for both"


def test_two_shards_are_measured_by_two_workers_with_the_same_weights(
    any_service: InProcessService, tmp_path: Path
) -> None:
    rows = jsonl([{"instruction": f"{i}?", "output": f"{i * 7 % 1009}"} for i in range(SHARD_ROWS + 6)])
    settings = {**GRADIENTS, "max_length": 24}
    dataset = any_service.push(rows)
    job = any_service.submit(dataset["id"], budget={"count": COUNT}, gradients=settings)
    run_next(any_service, UnitKind.WARMUP)
    other = UnitRunner(any_service.settings, "another-worker", threading.Event())
    second = other.units.claim_next(other.owner)
    assert second is not None
    run_next(any_service, UnitKind.GRADIENTS)
    other.run_claim(second)
    assert any_service.drain() == 1
    assert taken_with(any_service) == weights_of(any_service) * 2
    (tmp_path / "pool.jsonl").write_bytes(rows)
    config = ss.RunConfig(
        gradients=ss.GradientConfig.model_validate(settings),
        selection=ss.SelectionConfig(budget=ss.Budget(count=COUNT)),
    )
    run(tmp_path / "pool.jsonl", config, tmp_path / "out")
    assert files(any_service, job["id"]) == {name: (tmp_path / "out" / name).read_bytes() for name in COMPARED}
    other.database.dispose()


@pytest.mark.parametrize("harm", ["deleted", "flipped"])
def test_lost_weights_are_made_again_before_a_shard_is_measured(
    service: InProcessService, alone: tuple[dict[str, bytes], dict[str, Any]], harm: str
) -> None:
    job = submit(service)
    run_next(service, UnitKind.WARMUP)
    path = service.runner.store.path("proj_default", weights_of(service)[0] or "")
    before = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert service.drain() == 4, "a shard finds out, the warm-up, the shard, the selection"
    assert path.read_bytes() == before, "the same bits come out"
    assert [unit.generation for unit in units_of(service, UnitKind.WARMUP)] == [2]
    assert files(service, job["id"]) == alone[0]
    assert events(service, job["id"]).count("artifacts.lost") == 1


def test_shards_taken_with_other_weights_are_measured_again(
    service: InProcessService, alone: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    job = submit(service)
    run_next(service, UnitKind.WARMUP)
    run_next(service, UnitKind.GRADIENTS)
    with service.runner.database.write() as session:
        unit = units_of(service, UnitKind.GRADIENTS)[0]
        commit = session.scalars(select(UnitCommit).where(UnitCommit.unit_id == unit.id)).one()
        commit.result = {**commit.result, "warmup": "0" * 64}
    assert service.drain() == 3, "the selection refuses the mixture, the shard, the selection"
    assert files(service, job["id"]) == alone[0]


def test_a_warm_up_that_fails_ends_the_job_and_is_tried_again_by_the_next(
    any_service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = any_service
    with monkeypatch.context() as broken:

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("made up")

        broken.setattr(warmup_files, "make_warmup", fail)
        job = submit(service)
        assert service.drain() == service.settings.max_attempts
    ended = service.job(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "internal")
    assert events(service, job["id"]).count("unit.failed") == service.settings.max_attempts
    with service.runner.database.read() as session:
        assert session.scalars(select(GradientSet.status)).all() == ["failed"]
    second = submit(service)
    assert second["gradient_set_id"] == job["gradient_set_id"]
    assert service.drain() == 3
    assert service.job(second["id"])["status"] == "succeeded"


def test_a_warm_up_that_kills_its_workers_ends_the_job(service: InProcessService) -> None:
    job = submit(service)
    (unit,) = units_of(service, UnitKind.WARMUP)
    for _ in range(service.settings.max_lost_leases):
        assert service.runner.units.claim(unit.id, "doomed") is not None
        with service.runner.database.write() as session:
            session.execute(update(Unit).where(Unit.id == unit.id).values(lease_until=clock(-1)))
    service.runner.units.sweep()
    ended = service.job(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker-killed")
    assert service.drain() == 0


def test_a_cancelled_job_lets_its_warm_up_go(service: InProcessService) -> None:
    job = submit(service)
    claim = claimed(service, UnitKind.WARMUP)
    assert service.runner.units.heartbeat(claim, Report("warming_up", 1, None, None, None)).stop is None
    assert service.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    assert service.runner.units.heartbeat(claim, Report("warming_up", 1, None, None, None)).stop == "cancelled"
    service.runner.run_claim(claim)
    assert service.job(job["id"])["status"] == "cancelled"
    assert weights_of(service) == []
    assert [unit.state for unit in units_of(service, UnitKind.WARMUP)] == [UnitState.PENDING]
    assert service.drain() == 0, "nobody wants it any more"


def test_a_worker_that_lost_its_lease_leaves_no_second_warm_up(service: InProcessService) -> None:
    submit(service)
    claim = claimed(service, UnitKind.WARMUP)
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == claim.unit_id).values(lease_until=clock(-1)))
    service.runner.owner = "fast"
    assert service.runner.run(claim.unit_id)
    service.runner.run_claim(claim)
    with service.runner.database.read() as session:
        owners = session.scalars(select(UnitCommit.owner).where(UnitCommit.unit_id == claim.unit_id)).all()
    assert owners == ["fast"]


def test_a_worker_of_an_older_version_leaves_a_warmed_up_job_alone(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(service)
    with monkeypatch.context() as older:
        older.setattr(scheduling, "SCHEMA_VERSION", 3)
        assert service.drain() == 0
    assert service.drain() == 3


def test_a_warm_up_has_the_priority_of_the_job_that_needs_it(service: InProcessService) -> None:
    submit(service)
    urgent = submit(service, gradients={**GRADIENTS, "warmup_steps": 1}, priority=5)
    claim = claimed(service, UnitKind.WARMUP)
    assert service.job(urgent["id"])["status"] == "running"
    service.runner.run_claim(claim)
