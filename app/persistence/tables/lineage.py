"""How far the history has been told to a lineage service."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Big, Id, Word


class LineageCursor(Base):
    """The last event of a project that was delivered, and who delivers at the moment."""

    __tablename__ = "lineage_cursor"

    project_id: Mapped[str] = mapped_column(Id, ForeignKey("project.id"), primary_key=True)
    event_id: Mapped[int] = mapped_column(Big, server_default="0", default=0)
    holder: Mapped[str | None] = mapped_column(Word)
    held_until: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0", default=0)
    not_before: Mapped[datetime | None]
    error: Mapped[str | None]
