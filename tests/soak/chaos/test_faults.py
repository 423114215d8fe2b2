"""Faults that the random nemesis cannot bring about, because it has to undo what it does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
from sqlalchemy import select

from app.persistence.tables import Unit
from tests.fixtures.processes import ROOT
from tests.soak.chaos.clients import Clients
from tests.soak.chaos.clock import CLOCK
from tests.soak.chaos.cluster import Cluster
from tests.soak.chaos.sabotage import HOLD, TIME_LIMIT
from tests.soak.chaos.small_disk import PostgresOnSmallDisk
from tests.soak.chaos.test_controls import verdict_after, wait_for


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
        verdict = verdict_after(cluster, clients)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 2}
        assert "worked_without_message" in cluster.workers[0].log_text()


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
        verdict = verdict_after(cluster, clients)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 4}
        with cluster.database.read() as session:
            assert set(session.scalars(select(Unit.epoch))) == {1}, "a lease was taken away before it had run out"


def test_the_clock_of_a_process_can_be_made_wrong() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import tests.soak.chaos, time; print(time.time())"],
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
        wait_for(lambda: "exited with 'signal 9" in worker.log_text())
        worker.kill()
        del worker.env[TIME_LIMIT]  # on a busy machine honest work may take that long
        worker.start()
        verdict = verdict_after(cluster, clients)
        assert verdict.violations == []
        assert verdict.ended == {"succeeded": 1}
        assert verdict.claims > verdict.commits


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
        verdict = verdict_after(cluster, clients)
        assert verdict.violations == []
