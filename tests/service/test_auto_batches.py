"""A job whose batches are to be as large as the workers' memory allows: settled when it is made, and recorded."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.services.jobs.batches import DEFAULT_TOKENS, LIVE_SECONDS, WorkerMemory, WorkerService, live_workers
from spice_select.client import Client
from spice_select.config import GradientConfig
from spice_select.models.architecture import TINY, proxy_shape
from spice_select.models.batch_memory import BATCH_SHARE, MOST_ON_CPU, MOST_ON_GPU, batch_memory
from tests.fixtures.commands import commands
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.background.registration import memory_of, start_registration

AUTO: dict[str, Any] = {"sketch_dim": 4, "max_length": 128, "batch_tokens": "auto"}
SHAPE = proxy_shape(TINY)
assert SHAPE is not None
GIB = 2**30


def free_for(tokens: int, rows: int = 30, **gradients: Any) -> int:
    """Free memory in which a batch of so many tokens, and no power of two more, has room."""
    assert SHAPE is not None
    config = GradientConfig(**{**AUTO, "batch_tokens": 8, **gradients})
    return int(batch_memory(SHAPE, config, rows).of_batch(int(tokens * 1.3)) / BATCH_SHARE)


def there(service: InProcessService, *workers: tuple[str, str, str, int]) -> None:
    for name, device, place, free in workers:
        WorkerService(service.runner.database).say(WorkerMemory(name, device, place, 80 * GIB, free, 64 * GIB))


def asked(service: InProcessService, dataset_id: str, **gradients: Any) -> dict[str, Any]:
    body = {"dataset_id": dataset_id, "budget": {"count": 3}, "gradients": {**AUTO, **gradients}}
    answer = service.http.post("/v1/estimates", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def budgets(service: InProcessService, job: dict[str, Any]) -> Sequence[Any]:
    settled = job["estimate"]["batch_tokens"]
    assert job["config"]["gradients"]["batch_tokens"] == settled["tokens"]
    assert service.job(job["id"])["config"] == job["config"]
    return settled["requested"], settled["tokens"], settled["basis"]


def test_a_job_takes_what_fits_the_least_worker_and_keeps_it(any_service: InProcessService, tmp_path: Path) -> None:
    dataset = any_service.push(jsonl(sums(30)))["id"]
    there(
        any_service,
        ("a:1", "cuda", "a/GPU-1", free_for(4096)),
        ("a:2", "cuda", "a/GPU-2", 64 * GIB),
        ("b:1", "cuda", "b/GPU-3", free_for(1024)),
    )
    before = asked(any_service, dataset)
    assert before["batch_tokens"] == {"requested": "auto", "tokens": 1024, "basis": "workers"}
    assert before["batches"] == -(-before["tokens"] // 1024)
    assert before["memory"]["gradients"] < BATCH_SHARE * free_for(1024)
    assert before["memory"]["device"] == 80 * GIB, "nothing was measured yet: the workers say it themselves"
    job = any_service.submit(dataset, gradients=AUTO)
    assert budgets(any_service, job) == ("auto", 1024, "workers")

    # More memory, or less, on another day: the gradients that are on their way, or there, are the ones that are meant.
    there(any_service, ("b:1", "cuda", "b/GPU-3", 64 * GIB))
    assert budgets(any_service, any_service.submit(dataset, gradients=AUTO)) == ("auto", 1024, "gradients")
    any_service.drain()
    later = any_service.submit(dataset, gradients=AUTO, budget={"count": 5})
    assert budgets(any_service, later) == ("auto", 1024, "gradients")
    assert later["gradients_reused"]
    assert asked(any_service, dataset)["gradients_reused"]
    number = any_service.submit(dataset, gradients={**AUTO, "batch_tokens": 1024})
    assert budgets(any_service, number) == (1024, 1024, "settings")
    assert number["gradient_set_id"] == job["gradient_set_id"], "the number is what is recorded, not the word"
    # Other settings are other gradients, and take what is free now.
    assert budgets(any_service, any_service.submit(dataset, gradients={**AUTO, "seed": 1}))[1:] == (4096, "workers")
    any_service.drain()

    any_service.pull(job["id"], tmp_path)
    [line] = (tmp_path / "provenance.intoto.jsonl").read_text().splitlines()
    build = json.loads(line)["predicate"]["buildDefinition"]
    assert build["internalParameters"]["batchTokensRequested"] == "auto"
    assert build["externalParameters"]["config"]["gradients"]["batch_tokens"] == 1024


def test_rows_that_were_appended_go_with_those_that_are_measured(service: InProcessService) -> None:
    there(service, ("a:1", "cuda", "a/GPU-1", free_for(512)))
    rows = sums(1100)
    first = service.push(jsonl(rows[:1024]))["id"]
    job = service.submit(first, gradients=AUTO)
    tokens = job["config"]["gradients"]["batch_tokens"]
    service.drain()
    there(service, ("a:1", "cuda", "a/GPU-1", 64 * GIB))
    longer = service.push(jsonl(rows))["id"]
    found = asked(service, longer)
    assert found["batch_tokens"] == {"requested": "auto", "tokens": tokens, "basis": "gradients"}
    assert found["shards"] == {"total": 2, "done": 1}


def test_without_a_live_worker_it_is_the_default(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(12)))["id"]
    default = {"requested": "auto", "tokens": DEFAULT_TOKENS, "basis": "default"}
    assert asked(any_service, dataset)["batch_tokens"] == default
    there(any_service, ("a:1", "cuda", "a/GPU-1", 64 * GIB))
    assert asked(any_service, dataset)["batch_tokens"]["tokens"] == MOST_ON_GPU
    with any_service.runner.database.write() as session:
        column = "seen_at - interval '70 seconds'"
        if session.get_bind().dialect.name == "sqlite":
            column = "strftime('%Y-%m-%d %H:%M:%f000', seen_at, '-70 seconds')"
        assert LIVE_SECONDS < 70
        session.execute(text(f"UPDATE worker SET seen_at = {column}"))
    assert asked(any_service, dataset)["batch_tokens"] == default


def test_processes_on_one_device_share_its_memory_and_a_processor_takes_less(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(30)))["id"]
    free = free_for(4096)
    there(service, ("a:1", "cuda", "a/GPU-1", free))
    assert asked(service, dataset)["batch_tokens"]["tokens"] == 4096
    there(service, ("a:2", "cuda", "a/GPU-1", free))
    shared = asked(service, dataset)["batch_tokens"]["tokens"]
    assert shared < 4096
    there(service, ("b:1", "cpu", "b/cpu", 64 * GIB))
    assert asked(service, dataset)["batch_tokens"]["tokens"] == min(shared, MOST_ON_CPU)
    WorkerService(service.runner.database).leave("a:2")
    assert asked(service, dataset)["batch_tokens"]["tokens"] == MOST_ON_CPU


def test_a_worker_whose_device_cannot_hold_the_model_does_not_decide(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(30)))["id"]
    there(service, ("a:1", "cuda", "a/GPU-1", free_for(2048)))
    WorkerService(service.runner.database).say(WorkerMemory("c:1", "cuda", "c/GPU-9", 1000, 1000, GIB))
    assert asked(service, dataset)["batch_tokens"]["tokens"] == 2048


def test_the_operators_limit_counts(sqlite_url: str, tmp_path: Path) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", worker_memory_bytes=free_for(256)) as service:
        dataset = service.push(jsonl(sums(30)))["id"]
        there(service, ("a:1", "cuda", "a/GPU-1", 64 * GIB))
        assert asked(service, dataset)["batch_tokens"]["tokens"] == 256


def test_a_choice_by_windows_leaves_room_for_tuning(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(30)))["id"]
    there(service, ("a:1", "cuda", "a/GPU-1", free_for(128)))
    by_windows = {"schedule": {"kind": "periodic"}, "selection": {"scope": {"kind": "windows", "size": 8}}}
    gradients = {**AUTO, "max_length": 32, "tuning": {"weights": "full"}, "dtype": "bfloat16"}
    body = {"dataset_id": dataset, "budget": {"count": 3}, "gradients": gradients}
    offline = service.http.post("/v1/estimates", json=body).json()["batch_tokens"]["tokens"]
    periodic = service.http.post("/v1/estimates", json={**body, **by_windows}).json()["batch_tokens"]["tokens"]
    assert periodic < offline


def test_a_repeated_call_gets_the_job_whatever_the_memory_is_now(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(12)))["id"]
    there(service, ("a:1", "cuda", "a/GPU-1", free_for(2048)))
    first = service.submit(dataset, {"Idempotency-Key": "one"}, gradients=AUTO)
    there(service, ("a:1", "cuda", "a/GPU-1", 0))
    again = service.submit(dataset, {"Idempotency-Key": "one"}, gradients=AUTO)
    assert (again["id"], again["config"]) == (first["id"], first["config"])


def test_a_word_that_is_no_budget_is_refused(service: InProcessService) -> None:
    for given in ("automatic", "8192", 7, None):
        body = {"dataset_id": "ds_x", "budget": {"count": 3}, "gradients": {"batch_tokens": given}}
        answer = service.http.post("/v1/jobs", json=body)
        assert answer.status_code == 422, answer.text
        assert all(e["pointer"].startswith("#/gradients/batch_tokens") for e in answer.json()["errors"]), answer.text


def test_client_and_command_ask_for_it(
    service: InProcessService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there(service, ("a:1", "cuda", "a/GPU-1", free_for(512, rows=20)))
    path = tmp_path / "pool.jsonl"
    path.write_bytes(jsonl(sums(20)))
    url = str(service.http.base_url)
    dataset = service.push(path.read_bytes())["id"]
    with Client(url) as client:
        found = client.jobs.estimate(dataset, "10%", gradients=AUTO)
        assert found.batch_tokens is not None
        assert (found.batch_tokens.requested, found.batch_tokens.tokens) == ("auto", 512)
        job = client.jobs.submit(dataset, "10%", gradients=AUTO)
        assert job.config["gradients"]["batch_tokens"] == 512
    monkeypatch.setenv("SPICE_API_URL", url)
    command = commands(capsys)
    small = ("--budget", "10%", "--sketch-dim", "4", "--max-length", "128", "--batch-tokens")
    shown = command("estimate", dataset, *small, "auto")
    assert re.search(r"^batches +\d+ of at most 512 tokens \(auto, from gradients\)$", shown.out, re.MULTILINE), shown
    sent = command("jobs", "submit", "--dataset", dataset, *small, "auto", "--json").json()
    assert sent["gradient_set_id"] == job.gradient_set_id
    sent = command("jobs", "submit", "--dataset", dataset, *small, "1024", "--json").json()
    assert sent["config"]["gradients"]["batch_tokens"] == 1024
    refused = command("jobs", "submit", "--dataset", dataset, *small, "some")
    assert refused.status == 2
    assert "give a number or auto" in refused.err


def test_a_worker_says_that_it_lives_until_it_ends(any_service: InProcessService) -> None:
    database, shutdown = any_service.runner.database, threading.Event()
    thread = start_registration(database, "here:1", "cpu", shutdown)
    deadline = time.monotonic() + 120
    found: list[WorkerMemory] = []
    while not found and time.monotonic() < deadline:
        with database.read() as session:
            found = live_workers(session)
        time.sleep(0.01)
    [worker] = found
    now = memory_of("here:1", "cpu")
    assert (worker.name, worker.device, worker.place) == ("here:1", "cpu", now.place)
    assert worker.total_bytes == worker.host_bytes == now.total_bytes
    assert 0 < worker.free_bytes <= worker.total_bytes
    shutdown.set()
    thread.join(20)
    assert not thread.is_alive()
    with database.read() as session:
        assert live_workers(session) == []
