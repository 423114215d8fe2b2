"""The body of an estimate."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class MemoryRead(BaseModel):
    """Bytes: what the steps need, and what the workers have."""

    gradients: int | None
    gradients_least: int | None
    tuning: int | None = None
    tuning_least: int | None = None
    selecting_least: int | None
    device: int | None
    host: int | None


class DiskRead(BaseModel):
    """Bytes still to be stored, and free."""

    needed: int | None
    free: int | None


class SecondsRead(BaseModel):
    """Seconds of work, without waiting in the queue."""

    gradients: float | None
    selecting: float | None
    other: float | None = None
    total: float | None


class CostRead(BaseModel):
    """What the seconds of work cost at the deployment's price of an hour of one worker."""

    amount: float
    currency: str
    per_hour: float


class ShardsRead(BaseModel):
    """Gradient shards of the pool, and how many are there already."""

    total: int
    done: int


class ActualRead(BaseModel):
    """What the job took in the end, to hold against the estimate."""

    tokens: int | None
    seconds: SecondsRead


class EstimateRead(BaseModel):
    """What a job takes; null where nothing is known, and then ``notes`` say why."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["estimate"] = "estimate"
    rows: int
    measured_rows: int | None = None
    tokens: int | None
    tokens_basis: str | None
    batches: int | None
    features: int | None
    gradient_bytes: int | None
    memory: MemoryRead
    disk: DiskRead
    seconds: SecondsRead
    seconds_basis: str | None = None
    cost: CostRead | None = None
    """Null where the deployment sets no price or no seconds are known."""
    shards: ShardsRead
    gradients_reused: bool
    fits: bool | None
    obstacles: list[str]
    notes: list[str]
    actual: ActualRead | None = None
    """Of a job that has a result."""
