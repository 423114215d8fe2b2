from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.processes import ApiProcess, CeleryWorker, Dispatcher, environment

ENDED = {"succeeded", "failed", "cancelled", "expired"}
FAST = {
    "SPICE_LEASE_SECONDS": "4",
    "SPICE_HEARTBEAT_SECONDS": "0.5",
    "SPICE_RING_SECONDS": "2",
    "SPICE_POLL_SECONDS": "0.1",
    "SPICE_BACKOFF_SECONDS": "0.2",
}
"""Short leases, so that a test sees a lost worker replaced in seconds."""


class Deployment:
    """API, dispatcher and Celery workers as in docker-compose.yml, each a process of its own."""

    def __init__(self, launch: Callable[[Any], Any], env: dict[str, str], folder: Path) -> None:
        self.launch, self.env, self.folder = launch, env, folder
        self.api: ApiProcess = launch(ApiProcess(env, folder))
        self.dispatcher: Dispatcher = launch(Dispatcher(env, folder))
        self.workers: list[CeleryWorker] = []
        self.http = httpx.Client(base_url=self.api.url, timeout=60, trust_env=False)

    def add_worker(self) -> CeleryWorker:
        worker: CeleryWorker = self.launch(CeleryWorker(self.env, self.folder, name=f"worker-{len(self.workers)}"))
        self.workers.append(worker)
        return worker

    def push(self, data: bytes) -> dict[str, Any]:
        response = self.http.post("/v1/datasets", files={"file": ("pool.jsonl", data)})
        assert response.status_code == 202, response.text
        return self.settle(response.headers["Location"], lambda found: found["status"] != "validating")

    def submit(self, dataset_id: str, **body: Any) -> dict[str, Any]:
        response = self.http.post("/v1/jobs", json={"dataset_id": dataset_id, **body})
        assert response.status_code == 202, response.text
        found: dict[str, Any] = response.json()
        return found

    def wait(self, job_id: str, seconds: float = 120) -> dict[str, Any]:
        return self.settle(f"/v1/jobs/{job_id}", lambda found: found["status"] in ENDED, seconds)

    def settle(self, path: str, done: Callable[[dict[str, Any]], bool], seconds: float = 120) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.http.get(path, params={"wait": 5}).json()
            if done(found):
                return found
            assert time.monotonic() < deadline, f"not settled after {seconds} s: {found}"


@pytest.fixture
def deployment(
    launch: Callable[[Any], Any], database_url: str, broker_url: str, tmp_path: Path
) -> Iterator[Deployment]:
    """API and dispatcher on PostgreSQL and a Redis-protocol server; workers as the test adds them."""
    extra = {**FAST, "SPICE_OPENLINEAGE_FILE": str(tmp_path / "lineage.jsonl")}
    env = environment(data_dir=tmp_path / "data", database_url=database_url, broker_url=broker_url, extra=extra)
    running = Deployment(launch, env, tmp_path / "logs")
    yield running
    running.http.close()
