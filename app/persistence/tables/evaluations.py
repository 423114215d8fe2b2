"""Evaluations of what jobs chose."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Word


class Evaluation(Base):
    """A request to find out whether a choice trains better than others, and what came of it."""

    __tablename__ = "evaluation"
    __table_args__ = (
        Index("ix_evaluation_project_id_id", "project_id", "id"),
        Index("ix_evaluation_job_id_id", "job_id", "id"),
        Index("ix_evaluation_status_id", "status", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    # None: the rows that the job was told to exclude.
    holdout_dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id"))
    name: Mapped[str | None]
    status: Mapped[str] = mapped_column(Word)
    model: Mapped[dict[str, Any]]
    model_revision: Mapped[str]
    config: Mapped[dict[str, Any]]
    group_column: Mapped[str | None]
    max_length: Mapped[int]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)
