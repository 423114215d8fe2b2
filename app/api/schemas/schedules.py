"""A schedule: what is asked for and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.api.schemas.fields import Json, Name, Shown
from app.api.schemas.jobs import JobCreate
from spice_select.config import Model, RunConfig

Cron = Annotated[str, Field(min_length=9, max_length=200)]
Zone = Annotated[str, Field(min_length=1, max_length=100)]


class ScheduleCreate(Model):
    """A job, and when it is made."""

    name: Name
    """For people; the jobs have it too."""
    cron: Cron
    """Minute, hour, day of month, month, day of week: ``0 2 * * *`` is two o'clock each night."""
    timezone: Zone = "UTC"
    """Where that time is meant, such as ``Europe/Berlin``."""
    extends_previous: bool = False
    """Each job selects what adds most to the selection of the one before."""
    paused: bool = False
    """It waits to be resumed."""
    job: JobCreate
    """The job; its data set is the first version of the pool. Its name and parent are not used."""


class ScheduleUpdate(Model):
    """What to change; what is left out stays."""

    name: Name | None = None
    cron: Cron | None = None
    timezone: Zone | None = None
    extends_previous: bool | None = None
    paused: bool | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give at least one field to change")
        empty = [field for field in self.model_fields_set if getattr(self, field) is None]
        if empty:
            raise ValueError(f"{sorted(empty)[0]} cannot be null")
        return self


class ScheduleRead(BaseModel):
    """A schedule, and how its last time went."""

    id: str
    object: Literal["schedule"] = "schedule"
    name: str
    cron: str
    timezone: str
    paused: bool
    extends_previous: bool
    dataset_id: str
    config: Annotated[Json, Shown(RunConfig)]
    metadata: dict[str, Any]
    priority: int
    deadline_seconds: float | None
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    last_outcome: str | None
    last_detail: str | None
    last_job_id: str | None
    created_at: datetime
    version: int
