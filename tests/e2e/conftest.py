from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import FAILED
from tests.fixtures.databases import fresh_database
from tests.fixtures.processes import ApiProcess, CeleryWorker, Dispatcher, environment
from tests.fixtures.receiver import Receiver, respond
from tests.fixtures.servers import tail

ENDED = {"succeeded", "failed", "cancelled", "expired"}
FAST = {
    "SPICE_LEASE_SECONDS": "4",
    "SPICE_HEARTBEAT_SECONDS": "0.5",
    "SPICE_NOTIFY_SECONDS": "2",
    "SPICE_POLL_SECONDS": "0.25",
    "SPICE_BACKOFF_SECONDS": "0.2",
}
"""Short leases, so that a test sees a lost worker replaced in seconds."""


class Deployment:
    """API, dispatcher and Celery workers as in docker-compose.yml, each a process of its own."""

    def __init__(self, stack: ExitStack, env: dict[str, str], folder: Path, collector: Receiver) -> None:
        self.stack, self.env, self.folder, self.collector = stack, env, folder, collector
        self.api = stack.enter_context(ApiProcess(env, folder))
        self.dispatcher = stack.enter_context(Dispatcher(env, folder))
        self.workers: list[CeleryWorker] = []
        self._started = 0
        self.http = httpx.Client(base_url=self.api.url, timeout=60, trust_env=False)

    def add_worker(self) -> CeleryWorker:
        worker = self.stack.enter_context(CeleryWorker(self.env, self.folder, name=f"worker-{self._started}"))
        self._started += 1
        self.workers.append(worker)
        return worker

    def end_workers(self) -> None:
        """Leave none to the next test."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    def push(self, data: bytes) -> dict[str, Any]:
        response = self.http.post("/v1/datasets", files={"file": ("pool.jsonl", data)})
        assert response.status_code == 202, response.text
        return self.settle(response.headers["Location"], lambda found: found["status"] != "validating")

    def submit(self, dataset_id: str, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        response = self.http.post("/v1/jobs", json={"dataset_id": dataset_id, **body}, headers=headers)
        assert response.status_code == 202, response.text
        found: dict[str, Any] = response.json()
        return found

    def wait(self, job_id: str, seconds: float = 240) -> dict[str, Any]:
        return self.settle(f"/v1/jobs/{job_id}", lambda found: found["status"] in ENDED, seconds)

    def spans(self, trace: str) -> dict[str, list[tuple[str, Span]]]:
        """What the collector was sent of a trace: the part of the service and the span, by name."""
        found: dict[str, list[tuple[str, Span]]] = {}
        for sent in self.collector.requests:
            for resource in ExportTraceServiceRequest.FromString(sent.body).resource_spans:
                attributes = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    if span.trace_id.hex() == trace:
                        found.setdefault(span.name, []).append((attributes["service.name"], span))
        return found

    def settle(
        self, path: str, done: Callable[[dict[str, Any]], bool], seconds: float = 240, wait: int = 5
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.http.get(path, params={"wait": wait}).json()
            if done(found):
                return found
            assert time.monotonic() < deadline, f"not settled after {seconds} s: {found}"
            if not wait:
                time.sleep(0.1)


@pytest.fixture(scope="module")
def _module(
    request: pytest.FixtureRequest, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    extra = {
        **FAST,
        "SPICE_TRACING": "otlp",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    template = request.getfixturevalue("_migrated_postgres")
    with (
        redis.Redis.from_url(redis_url, socket_timeout=5) as broker,
        fresh_database(postgres_url, template=template) as database_url,
        Receiver(respond(200)) as collector,
        ExitStack() as stack,
    ):
        broker.flushdb()
        extra["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        env = environment(data_dir=folder / "data", database_url=database_url, broker_url=redis_url, extra=extra)
        running = Deployment(stack, env, folder / "logs", collector)
        yield running
        running.http.close()


@pytest.fixture
def deployment(request: pytest.FixtureRequest, _module: Deployment) -> Iterator[Deployment]:
    """API and dispatcher on PostgreSQL and a Redis-protocol server, one for a file; workers as the test adds them."""
    yield _module
    _module.end_workers()
    if request.node.stash.get(FAILED, False):
        for log in sorted(_module.folder.glob("*.log")):
            print(f"--- {log}\n{tail(log)}")
