"""Queries on files that are sent in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.persistence.tables import PartUpload, UploadedPart
from app.persistence.types import clock
from app.status import UploadStatus


class Uploads:
    """Files on their way; every read goes through the project, and ends with the time the file was given."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, upload: PartUpload) -> None:
        """Insert a new one."""
        self.session.add(upload)
        self.session.flush()

    def get(self, project_id: str, upload_id: str, *, lock: bool = False) -> PartUpload | None:
        """The upload, unless it is another project's or its time is over; ``lock`` keeps others from changing it."""
        query = select(PartUpload).where(
            PartUpload.id == upload_id, PartUpload.project_id == project_id, PartUpload.expires_at > clock()
        )
        if lock:
            query = query.with_for_update()
        return self.session.scalars(query).one_or_none()

    def page(self, project_id: str, *, sha256: str | None, before: str | None, limit: int) -> list[PartUpload]:
        """Those that wait for parts, newest first, starting behind an id."""
        query = select(PartUpload).where(
            PartUpload.project_id == project_id,
            PartUpload.status == UploadStatus.OPEN,
            PartUpload.expires_at > clock(),
        )
        if sha256 is not None:
            query = query.where(PartUpload.sha256 == sha256)
        if before is not None:
            query = query.where(PartUpload.id < before)
        return list(self.session.scalars(query.order_by(PartUpload.id.desc()).limit(limit)))

    def count_open(self, project_id: str) -> int:
        """How many wait for parts."""
        query = select(func.count()).where(
            PartUpload.project_id == project_id,
            PartUpload.status == UploadStatus.OPEN,
            PartUpload.expires_at > clock(),
        )
        return self.session.scalars(query).one()

    def parts(self, upload_id: str) -> list[UploadedPart]:
        """What has arrived, in order."""
        query = select(UploadedPart).where(UploadedPart.upload_id == upload_id).order_by(UploadedPart.number)
        return list(self.session.scalars(query))

    def received(self, upload_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Parts and bytes that have arrived, by upload; those without any are left out."""
        query = (
            select(UploadedPart.upload_id, func.count(), func.sum(UploadedPart.bytes))
            .where(UploadedPart.upload_id.in_(upload_ids))
            .group_by(UploadedPart.upload_id)
        )
        return {found: (number, int(size)) for found, number, size in self.session.execute(query)}

    def keep_part(self, upload_id: str, number: int, size: int, sha256: str) -> str | None:
        """Note a part, in place of an earlier one of this number.

        Returns:
            The digest of the earlier one, if there was one.
        """
        earlier = self.session.get(UploadedPart, (upload_id, number))
        if earlier is not None:
            old = earlier.sha256
            values = {"bytes": size, "sha256": sha256, "received_at": clock()}
            where = (UploadedPart.upload_id == upload_id, UploadedPart.number == number)
            self.session.execute(update(UploadedPart).where(*where).values(**values))
            return old
        self.session.add(
            UploadedPart(upload_id=upload_id, number=number, bytes=size, sha256=sha256, received_at=clock())
        )
        self.session.flush()
        return None

    def change(self, upload_id: str, **values: Any) -> None:
        """Change columns."""
        self.session.execute(update(PartUpload).where(PartUpload.id == upload_id).values(**values))

    def drop_part(self, upload_id: str, number: int) -> None:
        """Forget one part."""
        where = (UploadedPart.upload_id == upload_id, UploadedPart.number == number)
        self.session.execute(delete(UploadedPart).where(*where))

    def drop_parts(self, upload_id: str) -> None:
        """Forget what has arrived."""
        self.session.execute(delete(UploadedPart).where(UploadedPart.upload_id == upload_id))

    def drop(self, upload_id: str) -> None:
        """Forget an upload."""
        self.drop_parts(upload_id)
        self.session.execute(delete(PartUpload).where(PartUpload.id == upload_id))

    def lock_expired(self, limit: int) -> list[str]:
        """Some whose time is over, unless somebody else is at them."""
        query = select(PartUpload.id).where(PartUpload.expires_at <= clock()).limit(limit)
        return list(self.session.scalars(query.with_for_update(skip_locked=True)))

    def open_among(self, upload_ids: Sequence[str]) -> set[str]:
        """Those of the ids that wait for parts."""
        query = select(PartUpload.id).where(PartUpload.id.in_(upload_ids), PartUpload.status == UploadStatus.OPEN)
        return set(self.session.scalars(query))
