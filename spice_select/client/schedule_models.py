"""Schedules, as the service answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from spice_select.client.models import Answer


class Schedule(Answer):
    """A job that is made at set times. ``last_outcome``: ``fired``, ``skipped`` or ``failed``."""

    id: str
    name: str = ""
    cron: str
    timezone: str = "UTC"
    paused: bool = False
    extends_previous: bool = False
    dataset_id: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    next_fire_at: datetime | None = None
    last_fire_at: datetime | None = None
    last_outcome: str | None = None
    last_detail: str | None = None
    last_job_id: str | None = None
    created_at: datetime | None = None
    version: int | None = None
