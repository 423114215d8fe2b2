"""What is to be removed from the artifact store."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256


class DoomedArtifact(Base):
    """A stored file that a record named which is gone; removed unless another record names it."""

    __tablename__ = "doomed_artifact"

    project_id: Mapped[str] = mapped_column(Id, ForeignKey("project.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(Sha256, primary_key=True)
    doomed_at: Mapped[datetime]
