"""Jobs, and what they chose."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word
from app.persistence.types import SafeString


class Job(Base):
    """A request to choose part of a data set, and what came of it."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_project_id_id", "project_id", "id"),
        Index("ix_job_project_id_status_id", "project_id", "status", "id"),
        Index("ix_job_status_id", "status", "id"),
        Index("ix_job_gradient_set_id_status", "gradient_set_id", "status"),
        Index("ix_job_dataset_id_status", "dataset_id", "status"),
        Index("ix_job_target_gradient_set_id_status", "target_gradient_set_id", "status"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    gradient_set_id: Mapped[str] = mapped_column(ForeignKey("gradient_set.id"))
    # Without a foreign key: SQLite cannot take a column away again that is part of one.
    target_dataset_id: Mapped[str | None] = mapped_column(Id)
    target_gradient_set_id: Mapped[str | None] = mapped_column(Id)
    gradients_reused: Mapped[bool] = mapped_column(Boolean, server_default=false())
    status: Mapped[str] = mapped_column(Word)
    priority: Mapped[int] = mapped_column(server_default="0", default=0)
    stop_requested: Mapped[str | None] = mapped_column(Word)
    config: Mapped[dict[str, Any]]
    estimate: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    parent: Mapped[dict[str, Any] | None]
    traceparent: Mapped[str | None] = mapped_column(SafeString(60))
    partial: Mapped[bool] = mapped_column(Boolean, server_default=false())
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class SelectedSample(Base):
    """One pick of a job's ranking, with the evidence for it."""

    __tablename__ = "selected_sample"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source_row: Mapped[int] = mapped_column(BigInteger)
    row_sha256: Mapped[str] = mapped_column(Sha256)
    gain: Mapped[float]
    base_gain: Mapped[float]
    epsilon: Mapped[float]
    conflict: Mapped[float]
    score: Mapped[float]
    tokens: Mapped[int]


class File(Base):
    """One file of a job's result; the bytes lie in the artifact store under their sha256."""

    __tablename__ = "file"
    __table_args__ = (Index("ix_file_project_id_sha256", "project_id", "sha256"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    name: Mapped[str] = mapped_column(SafeString(200), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    position: Mapped[int]
    media_type: Mapped[str] = mapped_column(SafeString(100))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Sha256)
