"""Who owns what, and by which credential."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word


class Project(Base):
    """Owner of everything else."""

    __tablename__ = "project"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    max_running_units: Mapped[int | None]
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A credential of a project: only the first characters and a digest of it are kept."""

    __tablename__ = "api_key"
    __table_args__ = (Index("ix_api_key_prefix", "prefix"), Index("ix_api_key_project_id_id", "project_id", "id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(Word)
    sha256: Mapped[str] = mapped_column(Sha256)
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
