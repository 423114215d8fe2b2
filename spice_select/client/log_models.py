"""What the service says about the log of a job."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from spice_select.client.models import Answer


class LogLine(Answer):
    """A line of the log of a job: what a worker did with one of its units."""

    id: str
    created_at: datetime | None = None
    level: str = "info"
    unit_id: str | None = None
    unit_kind: str | None = None
    shard: int | None = None
    attempt: int | None = None
    worker: str | None = None
    code: str | None = None
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
