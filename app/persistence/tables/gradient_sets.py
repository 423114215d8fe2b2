"""Gradients that jobs share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word


class GradientSet(Base):
    """The gradients of one pool under one proxy and one setting; shared by every job that asks for the same.

    That of the schedule ``periodic`` has no shards: its gradients exist only while its windows are chosen from.
    """

    __tablename__ = "gradient_set"
    __table_args__ = (
        UniqueConstraint("project_id", "fingerprint"),
        Index("ix_gradient_set_warmup_unit_id", "warmup_unit_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    fingerprint: Mapped[str] = mapped_column(Sha256)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    # The unit that warms the proxy model up for it; without a foreign key, as for the target of a job.
    warmup_unit_id: Mapped[str | None] = mapped_column(Id)
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(Word)
    num_shards: Mapped[int]
    num_samples: Mapped[int]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
