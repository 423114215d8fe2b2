"""What was removed and leaves no row of its own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id


class Removed(Base):
    """An id that stood for something, so that removing it again is told from a slip of the pen."""

    __tablename__ = "removed"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    removed_at: Mapped[datetime]
