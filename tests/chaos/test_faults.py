"""Faults that the random nemesis cannot bring about, because it has to undo what it does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
from sqlalchemy import select

from app.persistence.tables import Unit
from tests.chaos.clients import Clients
from tests.chaos.clock import CLOCK
from tests.chaos.cluster import Cluster
from tests.chaos.little_memory import LittleMemory
from tests.chaos.nemesis import Nemesis
from tests.chaos.sabotage import HOLD, TIME_LIMIT
from tests.chaos.small_disk import PostgresOnSmallDisk
from tests.chaos.test_controls import verdict_after, wait_for
from tests.fixtures.processes import ROOT


def test_without_redis_and_without_a_dispatcher_jobs_are_accepted_and_done(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, workers=1, dispatchers=1, settings={"SPICE_SILENCE_SECONDS": "3"}) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        cluster.redis.kill()
        cluster.dispatchers[0].kill()
        for number in range(2):
            clients.submit(clients.ask(random.Random(number)), f"key {number}")
        verdict = verdict_after(cluster, clients, 120)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 2}
        assert "worked_without_doorbell" in cluster.workers[0].log_text()


def test_a_burst_of_stale_doorbells_does_not_cost_a_worker_its_child(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=1, dispatchers=1) as cluster, Clients(cluster.api.url, seed=1) as clients:
        clients.push(1)
        worker = psutil.Process(cluster.workers[0].pid)
        before = [child.pid for child in worker.children()]
        nemesis = Nemesis(cluster, clients, seed=1)
        for _ in range(10):
            nemesis.move("forged doorbells")
        nemesis.move("repeated doorbells")
        clients.submit(clients.ask(random.Random(1)), "a key")
        verdict = verdict_after(cluster, clients, 120)
        assert verdict.violations == []
        assert [child.pid for child in worker.children()] == before


def test_workers_whose_clocks_are_an_hour_wrong_take_nothing_from_each_other(tmp_path: Path) -> None:
    """Fault 38: leases, deadlines and turns go by the database's clock alone."""
    wrong, patient = [{CLOCK: "3600"}, {CLOCK: "-3600"}], {"SPICE_LEASE_SECONDS": "30"}
    with (
        Cluster(tmp_path, workers=0, dispatchers=1, of_workers=wrong, settings=patient) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(2)
        for number in range(4):
            clients.submit(clients.ask(random.Random(number)), f"key {number}")
        verdict = verdict_after(cluster, clients, 120)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 4}
        with cluster.database.read() as session:
            assert set(session.scalars(select(Unit.epoch))) == {1}, "a lease was taken away before it had run out"


def test_the_clock_of_a_process_can_be_made_wrong() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import tests.chaos, time; print(time.time())"],
        cwd=ROOT, env={**os.environ, CLOCK: "3600"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(told.stdout) > time.time() + 3000


def test_a_task_over_its_time_limit_costs_an_attempt_and_its_unit_is_done_by_another(tmp_path: Path) -> None:
    """Fault 14: Celery kills the child; the lease runs out and the unit is taken up again."""
    hold = tmp_path / "hold"
    hold.mkdir()
    (hold / "hold.1").touch()
    limited = {HOLD: str(hold), TIME_LIMIT: "10"}
    with (
        Cluster(tmp_path, workers=0, dispatchers=1, of_workers=[limited]) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        clients.submit(clients.ask(random.Random(1)), "a key")
        (worker,) = cluster.workers
        wait_for(lambda: "exited with 'signal 9" in worker.log_text(), 120)
        worker.kill()
        del worker.env[TIME_LIMIT]  # on a busy machine honest work may take that long
        worker.start()
        verdict = verdict_after(cluster, clients, 120)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 1}
        assert verdict.claims > verdict.commits


def child_that_begins(cluster: Cluster) -> int:
    """Process id of the child that has just taken a shard."""
    taken: list[str | None] = []

    def somebody() -> bool:
        with cluster.database.read() as session:
            taken[:] = session.scalars(select(Unit.owner).where(Unit.state == "leased", Unit.kind == "gradients")).all()
        return bool(taken)

    wait_for(somebody)
    return int(str(taken[0]).rpartition(":")[2])


def test_a_child_that_the_kernel_kills_for_want_of_memory_costs_an_attempt(tmp_path: Path) -> None:
    """Fault 8: the next child has the memory that this one wanted."""
    hold = tmp_path / "hold"
    hold.mkdir()
    (hold / "begin.1").touch()  # an idle child that is killed costs nothing
    with (
        LittleMemory(mebibytes=2) as group,
        Cluster(tmp_path, workers=1, dispatchers=1, extra={HOLD: str(hold)}) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        clients.push(1)
        clients.submit(clients.ask(random.Random(1)), "a key")
        worker = psutil.Process(cluster.workers[0].pid)
        child = child_that_begins(cluster)
        group.put_in(child)
        (hold / "begin.1").unlink()
        wait_for(lambda: group.killed > 0, 60)
        verdict = verdict_after(cluster, clients, 120)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 1}
        assert verdict.claims > verdict.commits
        assert child not in [other.pid for other in worker.children()]


def test_with_the_disk_of_postgresql_full_nothing_is_accepted_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    """Fault 28: 503 until there is space again, also when PostgreSQL gave up and had to be started anew."""
    with (
        Cluster(tmp_path, workers=1, dispatchers=1, postgres=PostgresOnSmallDisk) as cluster,
        Clients(cluster.api.url, seed=1) as clients,
    ):
        assert isinstance(cluster.postgres, PostgresOnSmallDisk)
        clients.push(1)
        clients.submit(clients.ask(random.Random(1)), "before")
        cluster.postgres.fill()
        padding = {f"key-{number}": "x" * 500 for number in range(15)}
        answers = []
        for number in range(400):
            # Pages that have room are still written to: go on until there is none.
            asked = {**clients.ask(random.Random(number)), "metadata": padding}
            answer = clients.http.post("/v1/jobs", json=asked, headers={"Idempotency-Key": f"full {number}"})
            answers.append(answer.status_code)
            if answer.status_code != httpx.codes.ACCEPTED:
                assert answer.json()["code"] == "unavailable", answer.text
                break
            clients.adopt(asked, f"full {number}", answer.json()["id"])
        assert answers[-1] == httpx.codes.SERVICE_UNAVAILABLE, answers
        cluster.postgres.clear()
        process = cluster.postgres.process
        if process is not None and process.poll() is not None:
            cluster.postgres.kill()
            cluster.postgres.start()
        clients.submit(clients.ask(random.Random(2)), "after")
        verdict = verdict_after(cluster, clients, 240)
        assert verdict.violations == []
