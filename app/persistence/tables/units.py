"""Pieces of work and what they produced."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word


class Unit(Base):
    """A piece of work that one worker does under a lease: a data set, warm-up, shard, selection or training."""

    __tablename__ = "unit"
    __table_args__ = (
        UniqueConstraint("gradient_set_id", "job_id", "shard"),
        Index("ix_unit_state_not_before", "state", "not_before"),
        Index("ix_unit_job_id", "job_id"),
        Index("ix_unit_dataset_id", "dataset_id"),
        Index("ix_unit_project_id_fingerprint", "project_id", "fingerprint"),
        Index("ix_unit_evaluation_id_kind_shard", "evaluation_id", "kind", "shard", unique=True),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[str] = mapped_column(Word)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    gradient_set_id: Mapped[str | None] = mapped_column(ForeignKey("gradient_set.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))
    # Without a foreign key: SQLite cannot take a column away again that is part of one.
    evaluation_id: Mapped[str | None] = mapped_column(Id)
    shard: Mapped[int | None]
    fingerprint: Mapped[str | None] = mapped_column(Sha256)
    state: Mapped[str] = mapped_column(Word)
    generation: Mapped[int] = mapped_column(default=1)
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    strikes: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime]
    rung_at: Mapped[datetime | None]
    phase: Mapped[str | None] = mapped_column(Word)
    completed: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    measure: Mapped[str | None] = mapped_column(Word)
    rate: Mapped[float | None]
    # While gradients are taken: tokens per second, and bytes that the worker holds on its device.
    token_rate: Mapped[float | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    # What a choice by windows can be continued from: digests of the files it left behind.
    checkpoint: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    schema_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class UnitCommit(Base):
    """What a unit produced; written once per generation, never changed."""

    __tablename__ = "unit_commit"
    __table_args__ = (Index("ix_unit_commit_artifact_sha256", "artifact_sha256"),)

    unit_id: Mapped[str] = mapped_column(ForeignKey("unit.id"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    owner: Mapped[str]
    artifact_sha256: Mapped[str | None] = mapped_column(Sha256)
    result: Mapped[dict[str, Any]]
    committed_at: Mapped[datetime]
