"""The moves: each does one bad thing to the cluster, and undoes it after a while where it does not heal by itself."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import psutil
import redis
from celery import Celery
from sqlalchemy import select

from app.ids import new_id
from app.persistence.tables import Unit, UnitCommit
from tests.fixtures.processes import LaunchedProcess
from tests.fixtures.servers import Server
from tests.soak.chaos.clients import Clients
from tests.soak.chaos.cluster import Cluster

OVER_THE_LEASE = (5.0, 8.0)
SHORT = (0.5, 2.5)


class Nemesis:
    """Draws moves from a seed.

    Args:
        cluster: What it plays with.
        clients: For moves that are requests.
        seed: Of the moves and their lengths.
        only: Regular expression that the names of moves must match.

    Attributes:
        faults: Name and moment of each move.
    """

    def __init__(self, cluster: Cluster, clients: Clients, seed: int, *, only: str = "") -> None:
        self.cluster, self.clients = cluster, clients
        self.random = random.Random(seed)
        self.faults: list[tuple[str, datetime]] = []
        self.moves: dict[str, Callable[[], None]] = {
            "kill a worker": lambda: self._kill(self._any(cluster.workers)),
            "kill a worker's child": self._kill_child,
            "pause a worker past its lease": lambda: self._pause(self._any(cluster.workers), OVER_THE_LEASE),
            "pause a worker for a moment": lambda: self._pause(self._any(cluster.workers), SHORT),
            "stop a worker in order": self._stop_worker,
            "kill the API": lambda: self._kill(cluster.api),
            "pause the API": lambda: self._pause(cluster.api, SHORT),
            "kill a dispatcher": lambda: self._kill(self._any(cluster.dispatchers)),
            "pause a dispatcher": lambda: self._pause(self._any(cluster.dispatchers), OVER_THE_LEASE),
            "kill Redis": lambda: self._kill_server(cluster.redis),
            "pause Redis": lambda: self._pause_server(cluster.redis),
            "empty Redis": self._flush,
            "full Redis": lambda: self._order_for_a_while("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
            "read-only Redis": lambda: self._order_for_a_while("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
            "full disk": self._fill_disk,
            "kill PostgreSQL": lambda: self._kill_server(cluster.postgres),
            "pause PostgreSQL": lambda: self._pause_server(cluster.postgres),
            "cut the wires to Redis": cluster.broker_wire.reset,
            "cut the wires to PostgreSQL": cluster.database_wire.reset,
            "slow wires": self._slow,
            "dead wire to Redis": self._blackhole,
            "forged doorbells": self._forge,
            "repeated doorbells": self._repeat,
            "rotten artifact": lambda: self._damage(rot=True),
            "deleted artifact": lambda: self._damage(rot=False),
            "many POSTs with one key": lambda: self.clients.storm(self.random, 20),
            "cancel": lambda: self.clients.cancel_one(self.random),
        }
        self.moves = {name: move for name, move in self.moves.items() if re.search(only, name)}

    def play(self, seconds: float, least: int = 0) -> None:
        """Make moves until the time is up; every move at least once before any comes a second time.

        Args:
            seconds: How long.
            least: Jobs that must have been accepted by then; on a slow machine it takes longer.
        """
        deadline = time.monotonic() + seconds
        deck: list[str] = []
        while time.monotonic() < deadline or len(self.clients.history) < least:
            if not deck:
                deck = sorted(self.moves)
                self.random.shuffle(deck)
            self.move(deck.pop())
            time.sleep(self.random.uniform(0.2, 1.2))

    def move(self, name: str) -> None:
        """Make one move."""
        self.faults.append((name, datetime.now(UTC)))
        self.moves[name]()

    def _any(self, processes: list[LaunchedProcess]) -> LaunchedProcess:
        return self.random.choice(processes)

    def _hold(self, bounds: tuple[float, float]) -> None:
        time.sleep(self.random.uniform(*bounds))

    def _kill(self, process: LaunchedProcess) -> None:
        process.kill()
        self._hold((0.1, 1.0))
        process.start()

    def _kill_child(self) -> None:
        worker = self._any(self.cluster.workers)
        with suppress(psutil.Error):
            for child in psutil.Process(worker.pid).children():
                child.kill()

    def _pause(self, process: LaunchedProcess, bounds: tuple[float, float]) -> None:
        process.pause()
        self._hold(bounds)
        process.resume()

    def _stop_worker(self) -> None:
        worker = self._any(self.cluster.workers)
        worker.send_signal(signal.SIGTERM)
        self._hold((1.0, 4.0))
        worker.stop(10)
        worker.start()

    def _kill_server(self, server: Server) -> None:
        server.kill()
        self._hold(SHORT)
        server.start()

    def _pause_server(self, server: Server) -> None:
        server.pause()
        self._hold((1.0, 6.0))
        server.resume()

    def _flush(self) -> None:
        with redis.Redis.from_url(self.cluster.redis.url, socket_timeout=5) as broker:
            broker.flushall()

    def _order_for_a_while(self, order: str, back: str) -> None:
        """Redis at its limit of memory, or demoted to a replica whose master is gone."""
        with redis.Redis.from_url(self.cluster.redis.url, socket_timeout=5) as broker:
            broker.execute_command(*order.split())
            self._hold((2.0, 6.0))
            broker.execute_command(*back.split())

    def _fill_disk(self) -> None:
        """No process of a worker can make a file longer than a few bytes, its log included."""
        worker = psutil.Process(self._any(self.cluster.workers).pid)
        _, hard = worker.rlimit(psutil.RLIMIT_FSIZE)
        self._limit_files(worker, (100, hard))
        self._hold((2.0, 5.0))
        self._limit_files(worker, (hard, hard))

    @staticmethod
    def _limit_files(worker: psutil.Process, limits: tuple[int, int]) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in (worker, *worker.children()):
                with suppress(psutil.NoSuchProcess):
                    process.rlimit(psutil.RLIMIT_FSIZE, limits)

    def _slow(self) -> None:
        for wire in (self.cluster.database_wire, self.cluster.broker_wire):
            wire.mode = "delay"
        self._hold((2.0, 4.0))
        for wire in (self.cluster.database_wire, self.cluster.broker_wire):
            wire.mode = "pass"

    def _blackhole(self) -> None:
        self.cluster.broker_wire.mode = "blackhole"
        self._hold((3.0, 8.0))
        self.cluster.broker_wire.mode = "pass"

    def ring(self, unit_ids: list[str]) -> None:
        """Send doorbells that no dispatcher sent."""
        with Celery(broker=self.cluster.redis.url, set_as_current=False) as app:
            for unit_id in unit_ids:
                app.send_task("spice.run_unit", args=(unit_id,), queue="units")

    def _forge(self) -> None:
        self.ring([new_id("unit"), "unit_' OR 1=1 --", "../../etc/passwd", "\x00", "x" * 5000])

    def _repeat(self) -> None:
        with self.cluster.database.read() as session:
            newest = select(Unit.id).order_by(Unit.created_at.desc()).limit(6)
            bells = [unit_id for unit_id in session.scalars(newest) for _ in range(10)]
        self.random.shuffle(bells)
        self.ring(bells)

    def _damage(self, *, rot: bool) -> None:
        """Rot or delete a gradient shard, whether a selection still needs it or a later job will."""
        with self.cluster.database.read() as session:
            query = select(Unit, UnitCommit).join(UnitCommit, UnitCommit.unit_id == Unit.id)
            query = query.where(Unit.kind == "gradients").order_by(UnitCommit.committed_at.desc()).limit(4)
            made = [(unit.project_id, commit.artifact_sha256) for unit, commit in session.execute(query)]
        if not made:
            return
        project, digest = self.random.choice(made)
        path = self.cluster.data / "objects" / project / str(digest)[:2] / str(digest)
        with suppress(FileNotFoundError):
            if not rot:
                path.unlink()
                return
            content = bytearray(path.read_bytes())
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
