"""The worst moments, one at a time: with the protections everything holds, without one the checker says so.

What happens with the protections happens to one service, one after another; each is taken out of a service of its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from sqlalchemy import select

from app.persistence.tables import Unit
from tests.fixtures.processes import LaunchedProcess
from tests.soak.chaos.checker import Verdict, check, settle
from tests.soak.chaos.clients import Clients
from tests.soak.chaos.cluster import Cluster
from tests.soak.chaos.little_memory import LittleMemory
from tests.soak.chaos.nemesis import Nemesis
from tests.soak.chaos.sabotage import HOLD

SIZES = {"none": (2, 2), "idempotency": (1, 1), "ringing": (1, 2), "fence": (2, 1)}
"""Workers and dispatchers of the service without this protection."""


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@dataclass
class Stage:
    """A service and its clients.

    Attributes:
        off: The protection it lacks, or ``none``.
        hold: Folder where a test holds its workers back, see tests.soak.chaos.sabotage.
    """

    cluster: Cluster
    clients: Clients
    off: str
    hold: Path
    asked: int = 0

    def ask(self) -> dict[str, Any]:
        """A question whose gradients nobody has worked out yet."""
        self.asked += 1
        asked = self.clients.ask(random.Random(1))
        return {**asked, "gradients": {**asked["gradients"], "seed": 100 + self.asked}}


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, off = tmp_path_factory.mktemp(request.param), request.param
    hold = folder / "hold"
    hold.mkdir()
    workers, dispatchers = SIZES[off]
    extra = {HOLD: str(hold), **({} if off == "none" else {"SPICE_TEST_SABOTAGE": off})}
    deaf = {"SPICE_SILENCE_SECONDS": "600"}  # nobody looks for work that no doorbell has told of
    with (
        Cluster(folder, workers=workers, dispatchers=dispatchers, extra=extra, settings=deaf) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        yield Stage(cluster, clients, off, hold)


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    yield running
    for left in running.hold.iterdir():
        left.unlink()
    running.cluster.heal()
    for process in running.cluster.processes:
        process.wait_ready()


def stages(*off: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", off, indirect=True)


def verdict_after(cluster: Cluster, clients: Clients, seconds: float = 240) -> Verdict:
    settle(cluster.database, seconds)
    return check(cluster.database, clients, [])


def holder(cluster: Cluster) -> LaunchedProcess:
    """The worker whose child holds the one lease."""
    with cluster.database.read() as session:
        owner = session.scalars(select(Unit.owner).where(Unit.state == "leased")).one()
    child = int(str(owner).rpartition(":")[2])
    return next(worker for worker in cluster.workers if psutil.Process(child).ppid() == worker.pid)


@stages("none", "idempotency")
def test_one_key_is_one_job(stage: Stage) -> None:
    stage.clients.submit(stage.ask(), "a key")
    stage.clients.storm(random.Random(2), 100 if stage.off == "none" else 3)
    verdict = verdict_after(stage.cluster, stage.clients)
    if stage.off == "none":
        assert verdict.violations == []
    else:
        assert any("key" in violation and "made 2 jobs" in violation for violation in verdict.violations)


@stages("none", "ringing")
def test_a_doorbell_that_the_broker_forgot_is_rung_again(stage: Stage) -> None:
    cluster = stage.cluster
    for worker in cluster.workers:
        worker.kill()
    stage.clients.submit(stage.ask(), "a forgotten key")

    def rung() -> bool:
        with cluster.database.read() as session:
            return bool(
                session.scalars(select(Unit.id).where(Unit.state == "pending", Unit.notified_at.is_not(None))).all()
            )

    wait_for(rung)
    with redis.Redis.from_url(cluster.redis.url, socket_timeout=5) as broker:
        broker.flushall()
    cluster.workers[0].start().wait_ready()
    verdict = verdict_after(cluster, stage.clients, 240 if stage.off == "none" else 12)
    if stage.off == "none":
        assert verdict.violations == []
    else:
        assert verdict.lost == 1
        assert any("was accepted and is queued" in violation for violation in verdict.violations)


@stages("none", "fence")
def test_a_worker_that_wakes_up_late_commits_nothing(stage: Stage) -> None:
    cluster, hold = stage.cluster, stage.hold
    (hold / "hold.1").touch()
    (hold / "hold.2").touch()
    stage.clients.submit(stage.ask(), "a late key")
    wait_for(lambda: bool(list(hold.glob("unit_*.1"))))
    zombie = holder(cluster)
    zombie.pause()
    wait_for(lambda: bool(list(hold.glob("unit_*.2"))))
    (hold / "hold.1").unlink()
    ended = zombie.log_text().count("unit_ended")
    zombie.resume()
    wait_for(lambda: zombie.log_text().count("unit_ended") > ended)
    (hold / "hold.2").unlink()
    verdict = verdict_after(cluster, stage.clients)
    if stage.off == "none":
        assert verdict.violations == []
    else:
        assert any("was committed by epoch 1, its lease was epoch 2" in violation for violation in verdict.violations)


@stages("none")
def test_a_worker_killed_between_artifact_and_commit_costs_one_more_try(stage: Stage) -> None:
    cluster, hold = stage.cluster, stage.hold
    before = check(cluster.database, stage.clients, [])
    (hold / "hold.1").touch()
    stage.clients.submit(stage.ask(), "a killed key")
    wait_for(lambda: bool(list(hold.glob("unit_*.1"))))
    victim = holder(cluster)
    victim.kill()
    verdict = verdict_after(cluster, stage.clients)
    assert verdict.violations == []
    assert verdict.claims - before.claims == verdict.commits - before.commits + 1


@stages("none")
def test_a_burst_of_stale_doorbells_does_not_cost_a_worker_its_child(stage: Stage) -> None:
    def children() -> list[int]:
        return sorted(child.pid for worker in stage.cluster.workers for child in psutil.Process(worker.pid).children())

    before = children()
    nemesis = Nemesis(stage.cluster, stage.clients, seed=1)
    for _ in range(10):
        nemesis.move("forged doorbells")
    nemesis.move("repeated doorbells")
    stage.clients.submit(stage.ask(), "a key among the stale")
    verdict = verdict_after(stage.cluster, stage.clients)
    assert verdict.violations == []
    assert children() == before


def child_that_begins(cluster: Cluster) -> int:
    """Process id of the child that has just taken a shard."""
    taken: list[str | None] = []

    def somebody() -> bool:
        with cluster.database.read() as session:
            taken[:] = session.scalars(select(Unit.owner).where(Unit.state == "leased", Unit.kind == "gradients")).all()
        return bool(taken)

    wait_for(somebody)
    return int(str(taken[0]).rpartition(":")[2])


@stages("none")
def test_a_child_that_the_kernel_kills_for_want_of_memory_costs_an_attempt(stage: Stage) -> None:
    """Fault 8: the next child has the memory that this one wanted."""
    cluster = stage.cluster
    before = check(cluster.database, stage.clients, [])
    (stage.hold / "begin.1").touch()  # an idle child that is killed costs nothing
    with LittleMemory(mebibytes=0) as group:  # a child that has worked before needs next to nothing anew
        stage.clients.submit(stage.ask(), "a hungry key")
        child = child_that_begins(cluster)
        group.put_in(child)
        (stage.hold / "begin.1").unlink()
        wait_for(lambda: group.killed > 0)
        verdict = verdict_after(cluster, stage.clients)
        assert verdict.violations == []
        assert verdict.claims - before.claims > verdict.commits - before.commits
        children = [other.pid for worker in cluster.workers for other in psutil.Process(worker.pid).children()]
        assert child not in children
