"""One run under load from start to report."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from app.persistence.session import Database
from tests.fixtures.databases import migrate
from tests.fixtures.processes import ApiProcess, CeleryWorker, Dispatcher, LaunchedProcess, environment
from tests.fixtures.servers import PostgresServer, RedisServer
from tests.soak.load.balancer import Balancer
from tests.soak.load.clients import Load, Tally
from tests.soak.load.meter import Meter, Series

DRAIN_SECONDS = 2.0
"""Between taking a replica out of the balancer and asking it to end, as ``preStop`` of deploy/kubernetes waits."""
SETTLE_SECONDS = 400.0


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        problems: Everything that should not have happened, in sentences.
        tally: What the clients saw.
        restarts: Seconds that each process was away.
        slopes: MiB a minute of each process after the restarts, late in the longest life of its children.
        lives: Length of that life in seconds, and resident MiB after each quarter of it.
        memory: Resident MiB of each at its last look, and most.
        files: Open files of each: after the restarts, at the end, most.
        connections: Of the database: after the restarts, at the end, most.
        seconds: Length of the load.
    """

    problems: list[str]
    tally: Tally
    restarts: dict[str, float]
    slopes: dict[str, float]
    lives: dict[str, tuple[float, list[float]]]
    memory: dict[str, tuple[float, float]]
    files: dict[str, tuple[int, int, int]]
    connections: tuple[int, int, int]
    seconds: float


def run(folder: Path, seconds: float, seed: int, *, threads: int = 32, pause: float = 0.6) -> Outcome:
    """Two APIs behind a balancer, a dispatcher, two Celery workers; clients on them; each restarted once in order.

    Args:
        folder: For logs and artifacts.
        seconds: Length of the load.
        seed: Of what is asked.
        threads: Clients.
        pause: Longest pause of a client between two requests, in seconds.
    """
    with ExitStack() as stack:
        postgres, redis = stack.enter_context(PostgresServer()), stack.enter_context(RedisServer())
        migrate(postgres.url)
        env = environment(
            data_dir=folder / "data",
            database_url=postgres.url,
            broker_url=redis.url,
            extra={"SPICE_NOTIFY_SECONDS": "2", "SPICE_SILENCE_SECONDS": "15", "SPICE_DEVICE": "cpu"},
        )
        logs = folder / "logs"
        apis = [ApiProcess(env, logs, name=f"api-{number}") for number in range(2)]
        workers = [CeleryWorker(env, logs, name=f"worker-{number}") for number in range(2)]
        processes: list[LaunchedProcess] = [*apis, Dispatcher(env, logs), *workers]
        for process in processes:
            stack.callback(process.stop, 3)
            process.start()
        for process in processes:
            process.wait_ready()
        database = Database(postgres.url, pool_size=1)
        stack.callback(database.dispose)
        balancer = stack.enter_context(Balancer([api.port for api in apis]))
        load = Load(balancer.url, seed, threads=threads, pause=pause)
        load.push()
        meter = stack.enter_context(Meter(processes, database, max(0.5, seconds / 300)))
        problems: list[str] = []
        restarts: dict[str, float] = {}
        began = time.monotonic()
        with load:
            time.sleep(seconds * 0.1)
            for process in processes:
                restarts[process.name] = _restart(process, balancer, problems)
                time.sleep(seconds * 0.03)
            restarts["redis"] = _away(redis.stop, redis.start)
            calm = time.monotonic() + seconds * 0.05
            while time.monotonic() < began + seconds:
                time.sleep(0.2)
        problems += [f"{job} was accepted and has not ended" for job in load.settle(SETTLE_SECONDS)]
        tally = load.tally
        problems += [f"{job} {state}" for job, state in tally.done.items() if state != "succeeded"]
        problems += tally.errors
        seen = {name: series.since(calm) for name, series in meter.series.items()}
        connections = [count for moment, count in meter.connections if moment >= calm] or [0]
        return Outcome(
            problems=problems,
            tally=tally,
            restarts=restarts,
            slopes={name: series.slope for name, series in seen.items()},
            lives={name: _lived(series.life) for name, series in seen.items() if series.memory},
            memory={name: (series.memory[-1], max(series.memory)) for name, series in seen.items() if series.memory},
            files={name: (s.files[0], s.files[-1], max(s.files)) for name, s in seen.items() if s.files},
            connections=(connections[0], connections[-1], max(connections)),
            seconds=seconds,
        )


def _lived(life: Series) -> tuple[float, list[float]]:
    last = len(life.memory) - 1
    return life.seconds[-1] - life.seconds[0], [life.memory[last * quarter // 4] for quarter in range(1, 5)]


def _away(stop: Callable[[], object], start: Callable[[], object]) -> float:
    began = time.monotonic()
    stop()
    start()
    return time.monotonic() - began


def _restart(process: LaunchedProcess, balancer: Balancer, problems: list[str]) -> float:
    """In order: no new connection, then SIGTERM, then the next one is waited for. Returns the seconds it was away."""
    if isinstance(process, ApiProcess):
        balancer.take_out(process.port)
        time.sleep(DRAIN_SECONDS)
    began = time.monotonic()
    process.send_signal(15)
    code = process.wait(180)
    if code not in {0, -15}:
        problems.append(f"{process.name} ended with status {code} when it was asked to")
    process.start()
    process.wait_ready()
    if isinstance(process, ApiProcess):
        balancer.put_in(process.port)
    return time.monotonic() - began


def report(outcome: Outcome, seed: int) -> str:
    """The outcome for people."""
    tally = outcome.tally
    lines = [
        f"seed {seed}, {outcome.seconds:.0f} s: {sum(tally.counts.values())} requests, {len(tally.errors)} failed, "
        f"{len(tally.jobs)} jobs accepted, {dict(Counter(tally.done.values()))}, "
        f"{tally.bytes / 1e6:.1f} MB downloaded, {tally.resumed} streams resumed",
        "request    count    p50 ms    p99 ms",
    ]
    for kind, times in sorted(tally.seconds.items()):
        ordered = sorted(times)
        high = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        lines.append(f"{kind:10} {len(times):5} {statistics.median(times) * 1000:9.0f} {high * 1000:9.0f}")
    lines.append(
        "process       away s   memory MiB, most   longest life s: MiB after each quarter, a minute in its second half"
    )
    for name, (memory, most) in outcome.memory.items():
        length, quarters = outcome.lives[name]
        lines.append(
            f"{name:12} {outcome.restarts.get(name, 0.0):7.1f} {memory:12.1f} {most:7.1f} {length:10.0f}: "
            f"{', '.join(f'{held:.1f}' for held in quarters)} {outcome.slopes[name]:8.2f}"
        )
    lines.append("open files after the restarts, at the end, most: " + str(outcome.files))
    lines.append(f"redis        {outcome.restarts['redis']:7.1f}")
    lines.append("database connections after the restarts, at the end, most: " + str(outcome.connections))
    lines += [f"PROBLEM {problem}" for problem in outcome.problems[:50]]
    return "\n".join(lines)
