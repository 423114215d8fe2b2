"""Gradients that jobs share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word


class GradientSet(Base):
    """The gradients of one pool under one proxy and one setting; shared by every job that asks for the same."""

    __tablename__ = "gradient_set"
    __table_args__ = (UniqueConstraint("project_id", "fingerprint"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    fingerprint: Mapped[str] = mapped_column(Sha256)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(Word)
    num_shards: Mapped[int]
    num_samples: Mapped[int]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
