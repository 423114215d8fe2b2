"""What the child process behind a preview is told, on its standard input."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from spice_select.config import GradientConfig, ProxyConfig
from spice_select.ingest import IntakeLimits, IntakeOptions


class PreviewTask(BaseModel):
    """A data set, where it is, how it is read and who renders it.

    Exactly one of ``path``, ``source`` and ``shards`` says where it is.
    """

    path: str = ""
    """A file that was received."""
    source: dict[str, Any] | None = None
    """Where it is fetched from."""
    source_settings: dict[str, Any] = {}
    """Settings of the service for that."""
    shards: list[str] = []
    """Files of usable rows, of a data set that was read before."""
    options: IntakeOptions = IntakeOptions()
    limits: IntakeLimits = IntakeLimits()
    rows: int
    """How many rows are shown."""
    proxy: ProxyConfig
    gradients: GradientConfig
    memory_bytes: int
    """Address space of the child while it renders."""
    template_seconds: float
    """Processor time that it may take for that."""
    seconds: float
    """Time on the clock, and of the processor, for all of it."""
