"""What a worker does when things go wrong around a unit."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.persistence.repositories import Units
from app.persistence.tables import Unit, UnitCommit
from app.persistence.types import clock
from app.settings import Settings
from app.status import UnitKind
from tests.fixtures.service import InProcessService, jsonl, sums
from workers import run_unit
from workers.heartbeat import Heartbeat
from workers.run_unit import UnitRunner


@pytest.fixture
def job(service: InProcessService) -> dict[str, Any]:
    return service.submit(service.push(jsonl(sums(6)))["id"])


def shard_paths(service: InProcessService) -> list[Path]:
    with service.runner.database.read() as session:
        digests = [commit.artifact_sha256 for commit in session.scalars(select(UnitCommit)) if commit.artifact_sha256]
    return [service.runner.store.path("proj_default", digest) for digest in digests]


def run_next(service: InProcessService) -> None:
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    service.runner.run_claim(claim)


@pytest.mark.parametrize("harm", ["deleted", "flipped"])
def test_a_lost_gradient_shard_is_computed_again(service: InProcessService, job: dict[str, Any], harm: str) -> None:
    run_next(service)
    (path,) = shard_paths(service)
    before = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert service.drain() == 3, "the selection finds out, the shard is made again, the selection ends"
    assert service.job(job["id"])["status"] == "succeeded"
    assert path.read_bytes() == before, "the same bits come out"
    events = [event["type"] for event in service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]]
    assert "artifacts.lost" in events
    with service.runner.database.read() as session:
        unit = session.scalars(select(Unit).where(Unit.kind == "gradients")).one()
    assert unit.generation == 2


def test_a_disk_that_keeps_eating_shards_ends_the_job(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = service.runner.commit

    def commit_and_lose(claim: Any, outcome: Any, lines: Any) -> bool:
        done = real(claim, outcome, lines)
        if claim.kind == UnitKind.GRADIENTS:
            for path in shard_paths(service):
                path.unlink()
        return done

    monkeypatch.setattr(service.runner, "commit", commit_and_lose)
    assert service.drain(40) < 40
    ended = service.job(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "artifact-lost")


def test_rotten_rows_of_a_data_set_end_the_job_with_a_reason(service: InProcessService, job: dict[str, Any]) -> None:
    for path in (service.settings.data_dir / "objects").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    service.drain(40)
    ended = service.job(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "artifact-corrupt")


def test_an_unexpected_error_is_recorded_and_tried_again(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    handler = service.runner.handlers[UnitKind.GRADIENTS]
    real = handler.run

    def sometimes(*args: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("secret detail of the machine")
        return real(*args)

    monkeypatch.setattr(handler, "run", sometimes)
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"
    text = service.http.get(f"/v1/jobs/{job['id']}/events").text
    assert text.count("unit.failed") == 2
    assert "secret detail" not in text, "what a traceback says goes to the log alone"


def test_running_out_of_memory_is_a_failure_of_its_own(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(service.runner.handlers[UnitKind.GRADIENTS], "run", hungry)
    service.drain()
    assert service.job(job["id"])["error"]["code"] == "out-of-memory"


def test_a_process_that_goes_down_gives_its_unit_back(sqlite_url: str, tmp_path: Path) -> None:
    with InProcessService(sqlite_url, tmp_path / "data") as service:
        dataset = service.push(jsonl(sums(6)))
        job = service.submit(dataset["id"])
        service.runner.shutdown.set()
        run_next(service)
        with service.runner.database.read() as session:
            unit = session.scalars(select(Unit).where(Unit.kind == "gradients")).one()
        assert (unit.state, unit.attempts, unit.lost_leases) == ("pending", 0, 0)
        service.runner.shutdown.clear()
        service.drain()
        assert service.job(job["id"])["status"] == "succeeded"


def test_a_worker_that_lost_its_lease_discards_its_work(service: InProcessService, job: dict[str, Any]) -> None:
    claim = service.runner.units.claim_next("slow")
    assert claim is not None
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == claim.unit_id).values(lease_until=clock(-1)))
    other = UnitRunner(service.settings, "fast", threading.Event())
    assert other.run(claim.unit_id)
    service.runner.run_claim(claim)
    with service.runner.database.read() as session:
        commits = session.scalars(select(UnitCommit).where(UnitCommit.unit_id == claim.unit_id)).all()
    assert [commit.owner for commit in commits] == ["fast"]
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"
    other.database.dispose()


def beating(service: InProcessService, **changes: float) -> Heartbeat:
    settings = Settings.model_validate({**service.settings.model_dump(), **changes})
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    return Heartbeat(service.runner.units, claim, settings, threading.Event())


def wait_for(condition: Any, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_the_heartbeat_carries_progress_out_and_the_stop_in(service: InProcessService, job: dict[str, Any]) -> None:
    with beating(service, heartbeat_seconds=0.05) as heartbeat:
        heartbeat.phase("computing_gradients", measure="samples")
        heartbeat.advance(2)
        assert wait_for(lambda: (service.job(job["id"])["progress"] or {})["completed"] == 2)
        assert not heartbeat.should_stop()
        service.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert wait_for(heartbeat.should_stop)
        assert (heartbeat.stop, heartbeat.lost) == ("cancelled", False)


def test_the_heartbeat_stops_a_worker_whose_lease_is_gone(service: InProcessService, job: dict[str, Any]) -> None:
    with beating(service, heartbeat_seconds=0.05) as heartbeat:
        with service.runner.database.write() as session:
            Units(session).kill(heartbeat.claim.unit_id, None)
        assert wait_for(lambda: heartbeat.lost)


def test_a_wedged_worker_gives_up_its_lease(service: InProcessService, job: dict[str, Any]) -> None:
    with beating(service, heartbeat_seconds=0.05, stall_seconds=0.3) as heartbeat:
        heartbeat.phase("computing_gradients")
        assert wait_for(lambda: heartbeat.lost)


def test_a_process_whose_work_hangs_although_its_lease_is_gone_is_ended(
    service: InProcessService, job: dict[str, Any]
) -> None:
    wedged = threading.Event()
    with beating(service, heartbeat_seconds=0.05, stall_seconds=0.3) as heartbeat:
        heartbeat.wedged = wedged.set
        heartbeat.phase("computing_gradients")
        assert wait_for(lambda: heartbeat.lost)
        assert not wedged.is_set(), "as long again to stop by itself"
        assert wait_for(wedged.is_set)


def test_a_worker_without_a_database_stops_before_its_lease_ends(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = beating(service, heartbeat_seconds=0.05, lease_seconds=2.0)

    def away(*_: Any) -> Any:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(heartbeat, "units", type("Away", (), {"heartbeat": staticmethod(away)}))
    began = time.monotonic()
    with heartbeat:
        assert wait_for(lambda: heartbeat.lost)
    assert 1.0 < time.monotonic() - began < 30, "half of the lease, and long before anybody else would have stopped it"


class Heard(list[str]):
    """A log that keeps the names of its warnings."""

    def warning(self, event: str, **_: Any) -> None:
        self.append(event)


@pytest.mark.parametrize(("at_the_end", "told"), [(True, []), (False, ["lease_lost"])])
def test_only_a_lease_that_was_really_lost_is_called_lost(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, at_the_end: bool, told: list[str]
) -> None:
    monkeypatch.setattr("workers.heartbeat.FAREWELL_SECONDS", 5.0 if at_the_end else 0.0)
    heartbeat = beating(service, heartbeat_seconds=0.05)
    heard = Heard()
    heartbeat._log = heard
    with heartbeat:
        with service.runner.database.write() as session:
            taken = update(Unit).where(Unit.id == heartbeat.claim.unit_id).values(epoch=Unit.epoch + 1)
            session.execute(taken)
        assert wait_for(lambda: heartbeat.lost)
    assert heard == told


def test_what_a_unit_leaves_behind_is_freed_in_a_process_of_its_own(
    service: InProcessService, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cycle:
        me: Cycle

    def a_cycle() -> weakref.ref[Cycle]:
        made = Cycle()
        made.me = made
        return weakref.ref(made)

    monkeypatch.setattr(run_unit, "COLLECT_SECONDS", 0.0)
    left: list[weakref.ref[Cycle]] = []
    gc.disable()
    try:
        for own in (False, True):
            if own:
                service.runner.warm_up()
                deadline = time.monotonic() + 60
                while gc.get_freeze_count() == 0:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                time.sleep(0.1)
            left.append(a_cycle())
            run_next(service)
            assert (left[-1]() is None) is own
    finally:
        gc.unfreeze()
        gc.enable()
    assert service.job(job["id"])["status"] == "succeeded"
