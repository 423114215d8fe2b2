"""Traces of OpenTelemetry, from the request that makes a job to its units. While off, its SDK is not imported."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import structlog

from spice_select.errors import ConfigError
from spice_select.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 00."""

_provider: TracerProvider | None = None


def configure(mode: Literal["off", "otlp"], part: str, *, exporter: SpanExporter | None = None) -> None:
    """Begin to trace in this process, once, where it starts (in a child, after the fork).

    Args:
        mode: ``otlp`` sends by OTLP over HTTP, to where OpenTelemetry's own variables ``OTEL_EXPORTER_OTLP_...`` say.
        part: Part of the service, as in ``spice-select-api``; ``OTEL_SERVICE_NAME`` is stronger.
        exporter: Takes spans one by one in place of OTLP, for tests.

    Raises:
        ConfigError: The packages of the extra ``tracing`` are not installed.
    """
    global _provider
    _provider = None
    if mode == "off":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    except ImportError as error:
        raise ConfigError(f"SPICE_TRACING needs the extra tracing: {error}") from error
    name = os.environ.get("OTEL_SERVICE_NAME") or f"spice-select-{part}"
    resource = Resource.create({"service.name": name, "service.version": __version__})
    _provider = TracerProvider(resource=resource)
    # Batches leave from a thread of their own; a collector that is away costs spans and nothing else.
    _provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter()) if exporter is None else SimpleSpanProcessor(exporter)
    )


def is_on() -> bool:
    """Whether this process traces."""
    return _provider is not None


def valid(traceparent: str | None) -> str | None:
    """A ``traceparent`` of a caller, if it is one."""
    return traceparent if traceparent is not None and TRACEPARENT.fullmatch(traceparent) else None


def traceparent_of(span: Span) -> str:
    """A span as the ``traceparent`` that its children name."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@contextmanager
def span(
    name: str,
    kind: Literal["server", "consumer"],
    *,
    parents: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
) -> Generator[Span | None]:
    """A span over the block; None while off. Log lines within it carry its ``trace_id``.

    Args:
        name: What is done.
        kind: Whether it answers a request or takes up work.
        parents: The ``traceparent`` it continues; further ones become links.
        attributes: What is known at its start; None among them is left out.
    """
    if _provider is None:
        yield None
        return
    from opentelemetry.trace import Link, SpanKind, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    contexts = [TraceContextTextMapPropagator().extract({"traceparent": parent}) for parent in parents]
    links = [Link(get_current_span(context).get_span_context()) for context in contexts[1:]]
    given = {key: value for key, value in (attributes or {}).items() if value is not None}
    started = _provider.get_tracer("spice-select", __version__).start_span(
        name,
        context=contexts[0] if contexts else None,
        kind=SpanKind.SERVER if kind == "server" else SpanKind.CONSUMER,
        attributes=given,
        links=links,
    )
    with structlog.contextvars.bound_contextvars(trace_id=f"{started.get_span_context().trace_id:032x}"):
        try:
            yield started
        finally:
            started.end()


def failed(started: Span | None, reason: str) -> None:
    """Mark a span as one that went wrong."""
    if started is not None:
        from opentelemetry.trace import Status, StatusCode

        started.set_status(Status(StatusCode.ERROR, reason))


def flush() -> None:
    """Send what waits, before a process may be killed."""
    if _provider is not None:
        _provider.force_flush(5000)
