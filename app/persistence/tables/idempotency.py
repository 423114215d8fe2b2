"""Keys of calls already answered."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256
from app.persistence.types import SafeString


class IdempotencyKey(Base):
    """A key a client gave with a POST, and the resource the call made."""

    __tablename__ = "idempotency_key"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    operation: Mapped[str] = mapped_column(SafeString(60), primary_key=True)
    key: Mapped[str] = mapped_column(SafeString(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(Sha256)
    resource_id: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime]
