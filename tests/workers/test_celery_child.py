"""A worker that hears nothing works all the same, one unit at a time, and a killed child never counts as busy."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.persistence.repositories import Units
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.celery_child import Busy, CeleryChild, wait_until_idle


@pytest.fixture
def service(any_database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    with InProcessService(any_database_url, tmp_path / "data") as running:
        yield running


@contextmanager
def watching(service: InProcessService, silence_seconds: float) -> Generator[CeleryChild]:
    busy = Busy()
    child = CeleryChild(
        lambda: service.runner, busy, threading.Event(), silence_seconds=silence_seconds, pause_seconds=0.05
    )
    thread = threading.Thread(target=child.watch)
    thread.start()
    try:
        yield child
    finally:
        child.shutdown.set()
        thread.join(30)
        busy.close()


def ended(service: InProcessService, job_id: str, seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while (job := service.job(job_id))["status"] in {"queued", "running"}:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def test_a_job_that_nobody_rings_for_is_done_after_a_silence(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(6)))
    job = service.submit(dataset["id"])
    with watching(service, 0.3):
        assert service.job(job["id"])["status"] == "queued"
        assert ended(service, job["id"])["status"] == "succeeded"


def test_a_child_that_gets_messages_does_not_look(service: InProcessService, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    with watching(service, 0.8) as child:
        monkeypatch.setattr(child, "_look", lambda: looks.append(time.monotonic()))
        for _ in range(50):  # until the machine did not stand still between two messages
            looks.clear()
            notified = [time.monotonic()]
            while notified[-1] - notified[0] < 1.2:
                child.answer()
                time.sleep(0.05)
                notified.append(time.monotonic())
            if max(later - earlier for earlier, later in pairwise(notified)) < 0.4:
                break
        assert not looks
        deadline = time.monotonic() + 60
        while not looks:
            assert time.monotonic() < deadline, "it never looked"
            time.sleep(0.05)


def test_a_message_and_a_look_never_run_two_units_at_once(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = service.push(jsonl(sums(6)))
    jobs = [service.submit(dataset["id"], gradients={"sketch_dim": 4, "seed": seed})["id"] for seed in range(4)]
    running = most = 0
    run = service.runner.run_claim

    def counted(claim: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        run(claim)
        running -= 1

    monkeypatch.setattr(service.runner, "run_claim", counted)
    with watching(service, 0.05) as child:
        while any(service.job(job)["status"] in {"queued", "running"} for job in jobs):
            with service.runner.database.read() as session:
                waiting = Units(session).runnable_ids(1, 3)  # what a dispatcher would ring for
            for _ in waiting:
                child.answer()
    assert most == 1
    assert {service.job(job)["status"] for job in jobs} == {"succeeded"}


def test_a_message_for_one_unit_leads_to_the_unit_that_is_next(service: InProcessService) -> None:
    """Redis is first in, first out: behind a backlog the message of an urgent job is the last to be heard."""
    dataset = service.push(jsonl(sums(6)))
    gradients = {"sketch_dim": 4}
    jobs = [service.submit(dataset["id"], gradients=gradients | {"seed": seed})["id"] for seed in range(4)]
    urgent = service.submit(dataset["id"], gradients=gradients | {"seed": 9}, priority=100)["id"]
    busy = Busy()
    child = CeleryChild(lambda: service.runner, busy, threading.Event(), silence_seconds=900, pause_seconds=900)
    try:
        for _ in range(2):  # its gradients and its selection, on messages that were sent for the jobs before it
            child.answer()
    finally:
        busy.close()
    assert service.job(urgent)["status"] == "succeeded"
    assert {service.job(job)["status"] for job in jobs} == {"queued"}


def test_a_database_that_is_away_does_not_end_the_watch(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = service.push(jsonl(sums(6)))
    job = service.submit(dataset["id"])
    claim, failures = service.runner.units.claim_next, iter(range(2))

    def away(owner: str) -> Any:
        if next(failures, None) is not None:
            raise ConnectionError("the database is away")
        return claim(owner)

    monkeypatch.setattr(service.runner.units, "claim_next", away)
    with watching(service, 0.1):
        assert ended(service, job["id"])["status"] == "succeeded"


def test_a_child_that_is_killed_at_work_is_not_waited_for() -> None:
    busy = Busy()
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        with busy.working():
            os.write(said, b"+")
            time.sleep(60)
        os._exit(0)
    assert os.read(heard, 1) == b"+"
    assert busy.anybody()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    began = time.monotonic()
    wait_until_idle(busy, 10)
    assert time.monotonic() - began < 8
    busy.close()
    os.close(heard)
    os.close(said)
