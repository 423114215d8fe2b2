"""Gradients that jobs share."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.api.schemas.fields import ProblemRead


class ShardRead(BaseModel):
    """One shard of a set: how far it is, or what it took."""

    model_config = ConfigDict(from_attributes=True)

    shard: int
    state: Literal["pending", "leased", "done", "dead"]
    completed: int
    total: int
    samples_per_second: float | None
    """At present, or over all of it once it is done."""
    tokens_per_second: float | None
    eta_seconds: float | None
    memory_bytes: int | None
    """Held at present, or at its peak once it is done: of the device, or of the process on a processor."""
    tokens: int | None
    seconds: float | None
    halvings: int | None
    """How often a batch was halved for lack of memory."""
    device: str | None


class GradientSetRead(BaseModel):
    """A set of gradients that jobs share."""

    id: str
    object: Literal["gradient_set"] = "gradient_set"
    status: str
    fingerprint: str
    dataset_id: str
    config: dict[str, Any]
    num_shards: int
    num_samples: int
    error: ProblemRead | None
    created_at: datetime
    ready_at: datetime | None
    shards: list[ShardRead] | None = None
    """Of one set, in the order of the pool; null in lists."""
