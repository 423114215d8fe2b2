"""Replicas count the requests of a key together, through the broker; without it each counts for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from app.api.rate_limit import SILENT_SECONDS, OwnLimiter, SharedLimiter
from app.ids import DEFAULT_PROJECT
from app.services.access.keys import KeyService
from tests.fixtures.servers import free_port
from tests.fixtures.service import InProcessService

WINDOW = 30
Shared = Callable[[int, float], SharedLimiter]


@pytest.fixture
def shared(broker_url: str) -> Iterator[Shared]:
    """Limiters of the broker, closed after the test."""
    with ExitStack() as stack:

        def make(quota: int, window: float) -> SharedLimiter:
            made = SharedLimiter(OwnLimiter(quota, window), broker_url)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def replicas(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[tuple[list[InProcessService], str]]:
    made = [
        InProcessService(
            database_url,
            tmp_path / "data",
            auth="keys",
            rate_limit_requests=4,
            rate_limit_seconds=WINDOW,
            broker_url=broker_url,
        )
        for _ in range(2)
    ]
    secret = KeyService(made[0].runner.database).create(DEFAULT_PROJECT, "one")[1]
    with ExitStack() as stack:
        yield [stack.enter_context(replica) for replica in made], secret


def test_two_replicas_share_one_count_of_keys_and_sessions(replicas: tuple[list[InProcessService], str]) -> None:
    (first, second), secret = replicas
    key = {"Authorization": f"Bearer {secret}"}
    answers = [replica.http.get("/v1/jobs", headers=key) for replica in (first, second, first)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=3", "r=2", "r=1"]
    word = first.app.state.services.sessions.begin(secret)
    page = second.http.get("/ui", headers={"Cookie": f"spice_session={word}", "Accept": "text/html"})
    assert page.status_code == 200, "a session of the page counts as its key"
    last = first.http.get("/v1/jobs", headers=key)
    assert (last.status_code, last.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(last.headers["Retry-After"]) <= WINDOW
    assert second.http.get("/v1/jobs", headers=key).status_code == 429


def test_while_the_broker_does_not_answer_each_process_counts_for_itself() -> None:
    limiter = SharedLimiter(OwnLimiter(2, WINDOW), f"redis://127.0.0.1:{free_port()}/0")
    began = time.monotonic()
    taken = [limiter.take("a") for _ in range(50)]
    assert [one is not None and one.exceeded for one in taken] == [False, False] + [True] * 48
    assert time.monotonic() - began < SILENT_SECONDS / 2, "a broker that is away is not waited for with each request"


@pytest.mark.parametrize(("value", "seconds"), [("1000000", None), ("1000000", 10**8), ("nonsense", 10**8)])
def test_whoever_writes_to_the_broker_locks_nobody_out_for_longer_than_a_window(
    shared: Shared, broker_url: str, value: str, seconds: int | None
) -> None:
    with redis.Redis.from_url(broker_url) as client:
        client.set("spice-rate:key_a", value, ex=seconds)
    limiter = shared(3, 1)
    limiter.take("key_a")
    later = limiter.take("key_a")
    assert later is not None
    assert not later.exceeded


def test_a_window_in_the_broker_ends(shared: Shared) -> None:
    limiter = shared(1, 1)
    first, second = limiter.take("key_b"), limiter.take("key_b")
    assert first is not None
    assert second is not None
    assert (first.exceeded, second.exceeded, second.reset) == (False, True, 1)
    time.sleep(1.1)
    third = limiter.take("key_b")
    assert third is not None
    assert not third.exceeded
