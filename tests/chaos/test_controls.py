"""The worst moments, one at a time: with the protections everything holds, without one the checker says so."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import select

from app.persistence.tables import Unit
from tests.chaos.checker import Verdict, check, settle
from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster
from tests.chaos.sabotage import HOLD
from tests.fixtures.processes import LaunchedProcess


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def protections(*, off: str, hold: Path | None = None) -> dict[str, str]:
    extra = {} if off == "none" else {"SPICE_TEST_SABOTAGE": off}
    return extra if hold is None else {**extra, HOLD: str(hold)}


def verdict_after(cluster: Cluster, clients: Clients, seconds: float = 40) -> Verdict:
    settle(cluster.database, seconds)
    return check(cluster.database, clients, [])


def holder(cluster: Cluster) -> LaunchedProcess:
    """The worker whose child holds the one lease."""
    with cluster.database.read() as session:
        owner = session.scalars(select(Unit.owner).where(Unit.state == "leased")).one()
    child = int(str(owner).rpartition(":")[2])
    return next(worker for worker in cluster.workers if psutil.Process(child).ppid() == worker.pid)


@pytest.mark.parametrize("off", ["none", "idempotency"])
def test_one_key_is_one_job(tmp_path: Path, off: str) -> None:
    with (
        Cluster(tmp_path, workers=1, dispatchers=1, extra=protections(off=off)) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        clients.submit(clients.ask(random.Random(1)), "a key")
        clients.storm(random.Random(2), 100 if off == "none" else 3)
        verdict = verdict_after(cluster, clients)
    if off == "none":
        assert verdict.violations == []
    else:
        assert any("key" in violation and "made 2 jobs" in violation for violation in verdict.violations)


@pytest.mark.parametrize("off", ["none", "ringing"])
def test_a_doorbell_that_the_broker_forgot_is_rung_again(tmp_path: Path, off: str) -> None:
    with (
        Cluster(tmp_path, workers=1, dispatchers=2, extra=protections(off=off)) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        cluster.workers[0].kill()
        clients.submit(clients.ask(random.Random(1)), "a key")

        def rung() -> bool:
            with cluster.database.read() as session:
                return bool(
                    session.scalars(select(Unit.id).where(Unit.state == "pending", Unit.rung_at.is_not(None))).all()
                )

        wait_for(rung)
        with redis.Redis.from_url(cluster.redis.url, socket_timeout=5) as broker:
            broker.flushall()
        cluster.workers[0].start().wait_ready()
        verdict = verdict_after(cluster, clients, 40 if off == "none" else 12)
    if off == "none":
        assert verdict.violations == []
    else:
        assert verdict.lost == 1
        assert any("was accepted and is queued" in violation for violation in verdict.violations)


@pytest.mark.parametrize("off", ["none", "fence"])
def test_a_worker_that_wakes_up_late_commits_nothing(tmp_path: Path, off: str) -> None:
    hold = tmp_path / "hold"
    hold.mkdir()
    with (
        Cluster(tmp_path, dispatchers=1, extra=protections(off=off, hold=hold)) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        (hold / "hold.1").touch()
        (hold / "hold.2").touch()
        clients.submit(clients.ask(random.Random(1)), "a key")
        wait_for(lambda: bool(list(hold.glob("unit_*.1"))))
        zombie = holder(cluster)
        zombie.pause()
        wait_for(lambda: bool(list(hold.glob("unit_*.2"))))
        (hold / "hold.1").unlink()
        zombie.resume()
        time.sleep(3)
        (hold / "hold.2").unlink()
        verdict = verdict_after(cluster, clients)
    if off == "none":
        assert verdict.violations == []
    else:
        assert any("was committed by epoch 1, its lease was epoch 2" in violation for violation in verdict.violations)


def test_a_worker_killed_between_artifact_and_commit_costs_one_more_try(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.mkdir()
    with (
        Cluster(tmp_path, dispatchers=1, extra=protections(off="none", hold=hold)) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        (hold / "hold.1").touch()
        clients.submit(clients.ask(random.Random(1)), "a key")
        wait_for(lambda: bool(list(hold.glob("unit_*.1"))))
        victim = holder(cluster)
        victim.kill()
        verdict = verdict_after(cluster, clients)
    assert verdict.violations == []
    assert verdict.claims == verdict.commits + 1
