"""Faults that the random nemesis cannot bring about, because it has to undo what it does."""

from __future__ import annotations

import random
from pathlib import Path

import psutil

from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster
from tests.chaos.nemesis import Nemesis
from tests.chaos.test_controls import verdict_after


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
