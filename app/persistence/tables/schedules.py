"""The table of schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.core import Base, Id, Word


class Schedule(Base):
    """A job that is made again and again on the newest version of a data set."""

    __tablename__ = "schedule"
    __table_args__ = (
        Index("ix_schedule_project_id_id", "project_id", "id"),
        Index("ix_schedule_paused_next_fire_at", "paused", "next_fire_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    cron: Mapped[str]
    timezone: Mapped[str]
    paused: Mapped[bool] = mapped_column(Boolean)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    extends_previous: Mapped[bool] = mapped_column(Boolean)
    config: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    priority: Mapped[int]
    deadline_seconds: Mapped[float | None]
    next_fire_at: Mapped[datetime]
    last_fire_at: Mapped[datetime | None]
    # No foreign keys: jobs may be deleted.
    last_job_id: Mapped[str | None] = mapped_column(Id)
    base_job_id: Mapped[str | None] = mapped_column(Id)
    last_outcome: Mapped[str | None] = mapped_column(Word)
    last_detail: Mapped[str | None]
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)
