"""A trace goes from the request that makes a job to the units that do it, and costs nothing while it is off."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from app import tracing
from app.persistence.tables import Job
from app.services.health import ROOT
from tests.fixtures.receiver import Receiver, respond
from tests.fixtures.service import InProcessService, jsonl, sums

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    yield InMemorySpanExporter()
    tracing.configure("off", "test")


def test_units_continue_the_trace_of_the_request_that_made_their_job(
    any_service: InProcessService, spans: InMemorySpanExporter
) -> None:
    service = any_service
    dataset = service.push(jsonl(sums(6)))
    tracing.configure("otlp", "test", exporter=spans)
    made = service.submit(dataset["id"], headers={"traceparent": CALLER})
    service.drain()
    again = service.submit(dataset["id"], budget={"count": 2}, headers={"traceparent": "not one"})
    service.drain()
    found = {}
    for span in spans.get_finished_spans():
        found.setdefault((span.name, span.attributes.get("spice.job_id")), []).append(span)  # type: ignore[union-attr]
    first, second = found["POST /v1/jobs", None]
    assert first.parent is not None
    assert f"{first.parent.trace_id:032x}-{first.parent.span_id:016x}" in CALLER
    assert (first.attributes["http.response.status_code"], first.attributes["http.route"]) == (202, "/v1/jobs")
    (gradients,) = found["unit gradients", None]
    (chosen,) = found["unit select", made["id"]]
    for unit in (gradients, chosen):
        assert unit.context.trace_id == first.context.trace_id
        assert unit.parent.span_id == first.context.span_id
        assert unit.attributes["spice.outcome"] == "committed"
    # A request that names no trace begins one.
    assert second.parent is None
    assert second.context.trace_id != first.context.trace_id
    (chosen,) = found["unit select", again["id"]]
    assert chosen.context.trace_id == second.context.trace_id


def test_a_unit_that_fails_is_an_error_in_its_trace(service: InProcessService, spans: InMemorySpanExporter) -> None:
    dataset = service.push(jsonl(sums(6)))
    tracing.configure("otlp", "test", exporter=spans)
    service.submit(dataset["id"], gradients={"sketch_dim": 4, "max_length": 8, "overflow": "exclude"})
    service.drain()
    broken = [span for span in spans.get_finished_spans() if not span.status.is_ok]
    assert {span.attributes["spice.outcome"] for span in broken} == {"failed: pool-empty"}  # type: ignore[index]


def test_a_callers_trace_is_kept_though_the_api_does_not_trace(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(6)))
    for header, kept in ((CALLER, CALLER), (CALLER.upper(), None), ("00-" + "0" * 32 + CALLER[35:], None)):
        job = service.submit(dataset["id"], headers={"traceparent": header})
        with service.runner.database.read() as session:
            assert session.scalars(select(Job.traceparent).where(Job.id == job["id"])).one() == kept


def test_spans_reach_a_collector(service: InProcessService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with Receiver(respond(200)) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        try:
            tracing.configure("otlp", "api")
            assert service.http.get("/v1/version").status_code == 200
            deadline = time.monotonic() + 120
            while not collector.requests and time.monotonic() < deadline:
                tracing.flush()  # the span ends a moment after its answer has gone out
                time.sleep(0.02)
        finally:
            tracing.configure("off", "api")
    (sent,) = collector.requests
    path, request = sent.path, ExportTraceServiceRequest.FromString(sent.body)
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    attributes = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
    assert attributes["service.name"] == "spice-select-api"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["GET /v1/version"]


def test_neither_sdk_nor_exporter_is_imported_while_it_is_off(tmp_path: Path) -> None:
    lines = (
        "import sys, app.main, workers.run_unit, workers.dispatcher\n"
        "from app.settings import Settings\n"
        f"app.main.create_app(Settings(_env_file=None, data_dir={str(tmp_path)!r}, database_url='sqlite://'))\n"
        # FastAPI imports the API of OpenTelemetry by itself.
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter', 'google.protobuf')\n"
        "assert not [name for name in sys.modules if name.startswith(heavy)]\n"
    )
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
