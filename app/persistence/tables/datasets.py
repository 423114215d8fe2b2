"""Data sets and their rows that cannot be used."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word


class Dataset(Base):
    """A registered data set; immutable once ready."""

    __tablename__ = "dataset"
    __table_args__ = (
        Index("ix_dataset_project_id_id", "project_id", "id"),
        Index("ix_dataset_project_id_rows_sha256", "project_id", "rows_sha256"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    status: Mapped[str] = mapped_column(Word)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Sha256)
    requested: Mapped[dict[str, Any]]
    # Where it is fetched from, and what that was when it was: until then ``sha256`` is empty and ``bytes`` is 0.
    source: Mapped[dict[str, Any] | None]
    resolved_source: Mapped[dict[str, Any] | None]
    container: Mapped[str | None] = mapped_column(Word)
    compression: Mapped[str | None] = mapped_column(Word)
    format: Mapped[str | None] = mapped_column(Word)
    columns: Mapped[dict[str, Any] | None]
    column_names: Mapped[list[Any] | None]
    rows_sha256: Mapped[str | None] = mapped_column(Sha256)
    num_rows: Mapped[int | None]
    num_usable: Mapped[int | None]
    num_rejected: Mapped[int | None]
    rejected: Mapped[dict[str, Any] | None]
    warnings: Mapped[list[Any] | None]
    shards: Mapped[list[Any] | None]
    source_shards: Mapped[list[Any] | None]
    error: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class RejectedRow(Base):
    """A row of a data set that cannot be used, and why."""

    __tablename__ = "rejected_row"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(Word)
    detail: Mapped[str]
