"""A line of the log of a job."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.status import LogLevel, UnitKind


class LogLineRead(BaseModel):
    """What a worker did, or met, while it worked on a unit of the job."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    level: LogLevel
    unit_id: str
    unit_kind: UnitKind
    shard: int | None
    attempt: int
    worker: str | None
    code: str
    message: str
    data: dict[str, Any]
