"""Tables of files: those of results, those that are sent in parts, and those to be removed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.core import Base, Id, Sha256, Word
from app.persistence.types import SafeString


class File(Base):
    """One file of a job's result; the bytes lie in the artifact store under their sha256."""

    __tablename__ = "file"
    __table_args__ = (Index("ix_file_project_id_sha256", "project_id", "sha256"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    name: Mapped[str] = mapped_column(SafeString(200), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    position: Mapped[int]
    media_type: Mapped[str] = mapped_column(SafeString(100))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Sha256)


class ObsoleteArtifact(Base):
    """A stored file whose record is deleted; it is removed unless another record names it."""

    __tablename__ = "obsolete_artifact"

    project_id: Mapped[str] = mapped_column(Id, ForeignKey("project.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(Sha256, primary_key=True)
    marked_at: Mapped[datetime]


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
