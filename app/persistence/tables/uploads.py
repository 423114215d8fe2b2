"""Files that are sent in parts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Id, Sha256, Word


class PartUpload(Base):
    """A file that is sent in parts; becomes a data set when all of them are there."""

    __tablename__ = "upload"
    __table_args__ = (
        Index("ix_upload_project_id_id", "project_id", "id"),
        Index("ix_upload_expires_at", "expires_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    status: Mapped[str] = mapped_column(Word)
    bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(Sha256)
    requested: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class UploadedPart(Base):
    """A part that has arrived; its bytes lie in the upload's folder."""

    __tablename__ = "upload_part"

    upload_id: Mapped[str] = mapped_column(ForeignKey("upload.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Sha256)
    received_at: Mapped[datetime]
