"""How far something is."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class ProgressRead(BaseModel):
    """How far the present phase is."""

    phase: str
    completed: int
    total: int
    unit: str
    fraction: float
    rate_per_second: float | None
    eta_seconds: float | None
    updated_at: datetime | None
    tokens_per_second: float | None = None
    """While gradients are taken."""
    memory_bytes: int | None = None
    """Most that a worker at it holds: of its device, or of its process on a processor."""
