"""A line of history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class EventRead(BaseModel):
    """One line of history, of a job, a data set or an evaluation."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    type: str
    job_id: str | None
    dataset_id: str | None
    evaluation_id: str | None = None
    data: dict[str, Any]
    created_at: datetime
