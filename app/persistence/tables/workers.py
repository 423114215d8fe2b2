"""Worker processes that are there."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Word


class Worker(Base):
    """A worker process and the memory it can have; it says so again and again while it lives. Of no project."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(primary_key=True)
    # ``cpu`` or ``cuda``, and which one: processes of one place share its memory.
    device: Mapped[str] = mapped_column(Word)
    place: Mapped[str]
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    free_bytes: Mapped[int] = mapped_column(BigInteger)
    host_bytes: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime]
