"""Workers register while they live, and what they say of their memory is what an estimate knows before any work."""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import text

from app.services.workers import LIVE_SECONDS, WorkerMemory, WorkerService, live_workers
from spice_select.models.compute_type import is_bfloat16_fast
from spice_select.models.memory import host_bytes
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.background.registration import start_registration

GIB = 2**30


def estimate(service: InProcessService, dataset_id: str) -> dict[str, Any]:
    body = {"dataset_id": dataset_id, "budget": {"count": 3}, "gradients": {"sketch_dim": 4, "max_length": 128}}
    answer = service.http.post("/v1/estimates", json=body)
    assert answer.status_code == 200, answer.text
    estimated: dict[str, Any] = answer.json()
    return estimated


def test_a_worker_is_registered_until_it_ends(service: InProcessService) -> None:
    database, shutdown = service.runner.database, threading.Event()
    registration = start_registration(database, "here:1", "cpu", shutdown)
    deadline = time.monotonic() + 120
    workers: list[WorkerMemory] = []
    while not workers and time.monotonic() < deadline:
        with database.read() as session:
            workers = live_workers(session)
        time.sleep(0.01)
    assert workers == [WorkerMemory("here:1", host_bytes(), host_bytes(), is_bfloat16_fast("cpu"))]
    shutdown.set()
    assert registration.join(60)
    with database.read() as session:
        assert live_workers(session) == []


def test_an_estimate_knows_the_memory_of_live_workers_before_anything_was_computed(
    service: InProcessService,
) -> None:
    dataset = service.push(jsonl(sums(12)))["id"]
    before = estimate(service, dataset)
    assert (before["memory"]["device"], before["fits"]) == (None, None)
    for name, device in (("a:1", 40 * GIB), ("a:2", 80 * GIB)):
        WorkerService(service.runner.database).register(WorkerMemory(name, device, 64 * GIB))
    known = estimate(service, dataset)
    assert (known["memory"]["device"], known["memory"]["host"], known["fits"]) == (80 * GIB, 64 * GIB, True)
    with service.runner.database.write() as session:
        column = "seen_at - interval '70 seconds'"
        if session.get_bind().dialect.name == "sqlite":
            column = "strftime('%Y-%m-%d %H:%M:%f000', seen_at, '-70 seconds')"
        assert LIVE_SECONDS < 70
        session.execute(text(f"UPDATE worker SET seen_at = {column}"))
    assert estimate(service, dataset)["memory"]["device"] is None, "nobody has heard of them lately"
