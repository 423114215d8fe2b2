"""Whoever writes to the broker can delay work, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery
from sqlalchemy import create_engine, text

from tests.e2e.conftest import FAST, Deployment
from tests.fixtures.databases import fresh_database
from tests.fixtures.processes import environment
from tests.fixtures.receiver import Receiver, respond
from tests.fixtures.service import jsonl, sums
from workers.celery_app import QUEUE

pytestmark = pytest.mark.soak
RUN_UNIT = "spice.run_unit"
COMMANDS = ("pool_shrink", "shutdown", "cancel_consumer", "rate_limit", "time_limit", "revoke", "pool_restart")


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest, postgres_url: str, redis_url: str, tmp_path: Path
) -> Iterator[Deployment]:
    template = request.getfixturevalue("_migrated_postgres")
    with (
        fresh_database(postgres_url, template=template) as database_url,
        Receiver(respond(200)) as collector,
        ExitStack() as stack,
    ):
        env = environment(data_dir=tmp_path / "data", database_url=database_url, broker_url=redis_url, extra=FAST)
        running = Deployment(stack, env, tmp_path / "logs", collector)
        yield running
        running.http.close()


def attack(url: str) -> None:
    """Every control command, and every header and body of a message that a worker could obey."""
    with Celery(broker=url, set_as_current=False) as app:
        arguments = {"task_name": RUN_UNIT, "queue": QUEUE, "task_id": "x", "n": 1, "rate_limit": "1/h", "hard": 0.001}
        for command in COMMANDS:
            app.control.broadcast(command, arguments=arguments)
        for options in ({"time_limit": 0.001}, {"soft_time_limit": 0.001}, {"countdown": 86400}, {"expires": 0.001}):
            for _ in range(5):
                app.send_task(RUN_UNIT, args=("unit_x",), queue=QUEUE, **options)
        app.send_task(RUN_UNIT, args=(), queue=QUEUE)
        app.send_task(RUN_UNIT, args=({"a": [1]}, 2, 3), kwargs={"b": 4}, queue=QUEUE)
        app.send_task("celery.chunks", args=(), queue=QUEUE)
        app.send_task("os.system", args=("true",), queue=QUEUE)
    with redis.Redis.from_url(url, socket_timeout=5) as broker:
        for body in (b"", b"{}", b"no json", b'{"body": "AAAA", "headers": {}}'):
            broker.rpush(QUEUE, body)


def test_commands_and_messages_of_a_stranger_cost_time_only(deployment: Deployment) -> None:
    deployment.add_worker()
    dataset = deployment.push(jsonl(sums(600)))
    settings = {"gradients": {"sketch_dim": 16, "max_length": 128}}
    first = deployment.submit(dataset["id"], budget={"count": 10}, **settings)
    attack(deployment.env["SPICE_BROKER_URL"])
    again = deployment.submit(dataset["id"], budget={"count": 20}, seed=2, **settings)
    assert [deployment.wait(job["id"])["status"] for job in (first, again)] == ["succeeded", "succeeded"]
    assert psutil.pid_exists(deployment.workers[0].pid), "the worker ended"
    engine = create_engine(deployment.env["SPICE_DATABASE_URL"])
    with engine.connect() as connection:
        assert connection.execute(text("SELECT sum(lost_leases) FROM unit")).scalar_one() == 0
    engine.dispose()
