"""Gradients that jobs share."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from app.api.schemas.problems import ProblemRead


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
