"""The embedded service as a person starts it: ``python -m app``, SQLite, no broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.conftest import ENDED, FAST
from tests.fixtures.processes import Service, environment
from tests.fixtures.service import jsonl, sums

BODY = {"budget": {"fraction": 0.1}, "gradients": {"sketch_dim": 16, "max_length": 128}}


def settle(url: str, done: Callable[[dict[str, Any]], bool], seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = httpx.get(url, params={"wait": 2}, timeout=60, trust_env=False).json()
        if done(found):
            return found
        assert time.monotonic() < deadline, f"not settled after {seconds} s: {found}"


def push(service: Service, count: int) -> dict[str, Any]:
    response = httpx.post(
        f"{service.url}/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(count)))}, trust_env=False
    )
    assert response.status_code == 202, response.text
    return settle(service.url + response.headers["Location"], lambda found: found["status"] != "validating")


def test_nothing_accepted_is_lost_when_the_whole_service_is_killed(
    launch: Callable[[Service], Service], tmp_path: Path
) -> None:
    service = launch(Service(environment(data_dir=tmp_path / "data", extra=FAST), tmp_path / "logs"))
    dataset = push(service, 2000)
    posted = httpx.post(f"{service.url}/v1/jobs", json={"dataset_id": dataset["id"], **BODY}, trust_env=False)
    job_url = f"{service.url}/v1/jobs/{posted.json()['id']}"
    settle(job_url, lambda found: found["phase"] == "computing_gradients" or found["status"] in ENDED)
    workers = psutil.Process(service.pid).children()
    service.kill()
    # The worker leads a session of its own; it ends by itself once its parent is gone.
    _, alive = psutil.wait_procs(workers, timeout=90)
    assert not alive, "a worker without its service must end"
    service.start().wait_ready()
    ended = settle(job_url, lambda found: found["status"] in ENDED)
    assert ended["status"] == "succeeded", ended
    assert ended["result"]["selected"] == 200


def test_a_dead_worker_is_started_again(launch: Callable[[Service], Service], tmp_path: Path) -> None:
    service = launch(Service(environment(data_dir=tmp_path / "data", extra=FAST), tmp_path / "logs"))
    (worker,) = psutil.Process(service.pid).children()
    worker.kill()
    dataset = push(service, 20)
    assert dataset["status"] == "ready"
    assert httpx.get(f"{service.url}/readyz", trust_env=False).status_code == 200


def test_it_ends_in_order(launch: Callable[[Service], Service], tmp_path: Path) -> None:
    service = launch(Service(environment(data_dir=tmp_path / "data", extra=FAST), tmp_path / "logs"))
    workers = psutil.Process(service.pid).children()
    began = time.monotonic()
    service.stop(90)
    assert time.monotonic() - began < 60
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
