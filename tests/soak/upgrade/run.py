"""One upgrade, in the order of docs/operations.md, with clients on it from before the first step to after the last."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from app.persistence.session import Database
from app.persistence.tables import Job, Unit
from app.status import JobStatus, UnitState
from tests.fixtures.processes import ROOT, ApiProcess, CeleryWorker, Dispatcher, environment
from tests.fixtures.servers import PostgresServer, RedisServer
from tests.soak.chaos.checker import Verdict, check, settle
from tests.soak.chaos.clients import Clients
from tests.soak.load.balancer import Balancer
from tests.soak.load.run import DRAIN_SECONDS
from tests.soak.upgrade.older import migrate_to_head, unpack

SETTLE_SECONDS = 400.0


class Asked(Clients):
    """Clients whose questions now and then are cut into parts, which workers of before parts must leave alone."""

    def ask(self, generator: random.Random) -> dict[str, Any]:
        asked = super().ask(generator)
        if generator.random() < 0.3:
            asked["selection"] = {"scope": {"kind": "partitioned", "parts": 2}}
        return asked


@dataclass
class Outcome:
    """What an upgrade came to.

    Attributes:
        verdict: Of the checker, over all jobs of both versions.
        revisions: Of the schema, before and after.
        migration_seconds: How long the migrations took, with jobs running.
        running: Jobs that were queued or running when they began.
        failed: Requests that got no answer, or 503.
        steps: Units finished by the end of each step.
    """

    verdict: Verdict
    revisions: tuple[str, str]
    migration_seconds: float
    running: int
    failed: int
    steps: dict[str, int] = field(default_factory=dict)


def run(folder: Path, older: str, seed: int, *, patience: float = 240.0) -> Outcome:
    """Bring a service of an older revision to this one, part by part.

    Args:
        folder: For the older tree, logs and artifacts.
        older: Revision of the history.
        seed: Of what is asked.
        patience: Longest wait for work to go on after a step, in seconds.

    Raises:
        NoHistoryError: If the revision cannot be had.
        TimeoutError: If nothing is finished any more after a step.
    """
    before = unpack(older, folder / "older")
    with ExitStack() as stack:
        postgres, redis = stack.enter_context(PostgresServer(durable=True)), stack.enter_context(RedisServer())
        extra = {"SPICE_NOTIFY_SECONDS": "2", "SPICE_SILENCE_SECONDS": "15", "SPICE_DEVICE": "cpu"}
        env = environment(data_dir=folder / "data", database_url=postgres.url, broker_url=redis.url, extra=extra)
        env_before = {**env, "PYTHONPATH": str(before)}
        migrate_to_head(before, env)
        logs = folder / "logs"
        enter = stack.enter_context
        api_before = ApiProcess(env_before, logs, name="api-before")
        dispatcher_before = Dispatcher(env_before, logs, name="dispatcher-before")
        worker_before = CeleryWorker(env_before, logs, name="worker-before")
        for process in (api_before, dispatcher_before, worker_before):
            stack.callback(process.stop, 3)
            process.start()
        for process in (api_before, dispatcher_before, worker_before):
            process.wait_ready()
        database = Database(postgres.url, pool_size=1)
        stack.callback(database.dispose)
        balancer = enter(Balancer([api_before.port]))
        clients = enter(Asked(balancer.url, seed, most=4))
        clients.http.headers["Connection"] = "close"  # so that the balancer decides about each request anew
        clients.push(2)
        steps: dict[str, int] = {}

        def finish_more(step: str) -> None:
            """Wait until three more units are finished: work goes on after the step."""
            deadline, begun = time.monotonic() + patience, done(database)
            while (now := done(database)) < begun + 3:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nothing was finished after: {step}")
                time.sleep(0.2)
            steps[step] = now

        clients.start()
        try:
            finish_more("older version alone")
            running, began, first = unfinished(database), time.monotonic(), schema(database)
            migrate_to_head(ROOT, env)
            seconds = time.monotonic() - began
            finish_more("schema upgraded, programs not")
            worker = CeleryWorker(env, logs, name="worker-after")
            stack.callback(worker.stop, 3)
            worker.start().wait_ready()
            finish_more("workers of both versions")
            api = enter(ApiProcess(env, logs, name="api-after"))
            # At once, as docs/operations.md says: the older API cannot show a job with settings it does not know.
            balancer.put_in(api.port)
            balancer.take_out(api_before.port)
            finish_more("everything of both versions")
            time.sleep(DRAIN_SECONDS)
            api_before.stop()
            worker_before.stop()
            dispatcher_before.stop()
            enter(Dispatcher(env, logs, name="dispatcher-after"))
            finish_more("newer version alone")
        finally:
            clients.stop()
        settle(database, SETTLE_SECONDS)
        return Outcome(
            verdict=check(database, clients, []),
            revisions=(first, schema(database)),
            migration_seconds=seconds,
            running=running,
            failed=clients.repeats + clients.refused,
            steps=steps,
        )


def done(database: Database) -> int:
    """Units finished so far."""
    with database.read() as session:
        return int(session.scalar(select(func.count()).where(Unit.state == UnitState.DONE)) or 0)


def unfinished(database: Database) -> int:
    """Jobs queued or running."""
    with database.read() as session:
        states = (JobStatus.QUEUED, JobStatus.RUNNING)
        return int(session.scalar(select(func.count()).where(Job.status.in_(states))) or 0)


def schema(database: Database) -> str:
    """Revision of the schema."""
    with database.read() as session:
        return str(session.scalar(text("SELECT version_num FROM alembic_version")))


def report(outcome: Outcome, older: str, seed: int) -> str:
    """The outcome for people."""
    verdict = outcome.verdict
    lines = [
        f"from {older}, seed {seed}: {verdict.accepted} jobs accepted, {dict(verdict.ended)}, {verdict.lost} lost, "
        f"{verdict.changed} changed, {outcome.failed} requests failed",
        f"schema {' to '.join(outcome.revisions)} in {outcome.migration_seconds:.1f} s (with the start of the program) "
        f"while {outcome.running} jobs were open",
        *(f"{count:5} units finished: {step}" for step, count in outcome.steps.items()),
    ]
    return "\n".join([*lines, *(f"VIOLATION {violation}" for violation in verdict.violations)])
