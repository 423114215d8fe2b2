"""Use cases of files that are sent in parts: begin, take a part, put together, give up."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from app.errors import ConflictError, NotFoundError, ServiceError
from app.ids import new_id
from app.persistence.repositories import DeletedIds, Uploads
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import PartUpload, UploadedPart
from app.persistence.types import clock
from app.services.datasets.service import Upload, enter
from app.services.idempotency import made_before, replayed
from app.services.quotas import Quotas
from app.settings import Settings
from app.status import UploadStatus
from app.storage import BLOCK_BYTES, ArtifactStore
from spice_select.config import digest_of

PART_BYTES = 16 * 2**20
"""Size of a part where the client names none."""
LARGEST_PART_BYTES = 256 * 2**20
MOST_PARTS = 10_000
_SWEEP_AT_ONCE = 20


@dataclass(frozen=True)
class UploadRequest:
    """What a client says about a file before it sends the first part."""

    bytes: int
    sha256: str
    part_bytes: int
    name: str | None
    requested: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UploadView:
    """An upload and what has arrived of it.

    Attributes:
        upload: Its row.
        num_received: Parts that have arrived.
        received_bytes: Their bytes.
        parts: The parts themselves; None in lists.
    """

    upload: PartUpload
    num_received: int
    received_bytes: int
    parts: Sequence[UploadedPart] | None = None


def num_parts(upload: PartUpload) -> int:
    """Parts of the whole file."""
    return -(-upload.bytes // upload.part_bytes)


def part_size(upload: PartUpload, number: int) -> int:
    """Bytes of a part, which is shorter only when it is the last."""
    return min(upload.part_bytes, upload.bytes - (number - 1) * upload.part_bytes)


class UploadService:
    """Uploads in parts of one service.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        settings: For the limits.
    """

    def __init__(self, database: Database, store: ArtifactStore, settings: Settings) -> None:
        self.database, self.store, self.settings = database, store, settings
        self.quotas = Quotas(store, settings)

    def begin(self, project_id: str, wanted: UploadRequest, key: str | None) -> tuple[UploadView, bool]:
        """Announce a file.

        Args:
            project_id: Owner.
            wanted: What will come.
            key: Idempotency-Key.

        Returns:
            The upload, and whether an earlier call had begun it.

        Raises:
            ServiceError: ``payload-too-large``, ``validation-error``, ``too-many-uploads``, ``quota-bytes``,
                ``quota-exceeded``, ``idempotency-key-reused``.
        """
        if wanted.bytes > self.settings.max_upload_bytes:
            detail = f"the file has {wanted.bytes} bytes, at most {self.settings.max_upload_bytes} are taken"
            raise ServiceError("payload-too-large", detail, pointer="#/bytes")
        if wanted.bytes > wanted.part_bytes * MOST_PARTS:
            least = -(-wanted.bytes // MOST_PARTS)
            detail = f"parts of that size would be more than {MOST_PARTS}; take at least {least} bytes"
            raise ServiceError("validation-error", detail, pointer="#/part_bytes")
        upload_id = new_id("up")
        body = digest_of({name: getattr(wanted, name) for name in UploadRequest.__dataclass_fields__})
        with self.database.write() as session:
            known = replayed(session, project_id, "POST /v1/datasets/uploads", key, body, upload_id)
            if known is None:
                uploads = Uploads(session)
                if uploads.count_open(project_id) >= self.settings.max_open_uploads:
                    detail = f"{self.settings.max_open_uploads} uploads of the project are open; complete or delete one"
                    raise ServiceError("too-many-uploads", detail, headers={"Retry-After": "60"})
                self.quotas.refuse(session, project_id, datasets=1, stored_bytes=wanted.bytes)
                uploads.add(
                    PartUpload(
                        id=upload_id,
                        project_id=project_id,
                        name=wanted.name,
                        status=UploadStatus.OPEN,
                        bytes=wanted.bytes,
                        part_bytes=wanted.part_bytes,
                        sha256=wanted.sha256,
                        requested=wanted.requested,
                        metadata_=wanted.metadata,
                        created_at=now(session),
                        expires_at=self._expiry(),
                    )
                )
        if known is not None:
            return made_before(partial(self.get, project_id, known), f"upload {known}"), True
        return self.get(project_id, upload_id), False

    def get(self, project_id: str, upload_id: str) -> UploadView:
        """One upload with its parts.

        Raises:
            NotFoundError: There is none of this id in the project, or its time is over.
        """
        with self.database.read() as session:
            uploads = Uploads(session)
            # Parts first: completing drops them, so that read afterwards they could be none, of an upload read as open.
            parts = uploads.parts(upload_id)
            upload = uploads.get(project_id, upload_id)
            if upload is None:
                raise NotFoundError(f"upload {upload_id}")
            if upload.status == UploadStatus.COMPLETED:
                return UploadView(upload, num_parts(upload), upload.bytes, [])
            return UploadView(upload, len(parts), sum(part.bytes for part in parts), parts)

    def page(self, project_id: str, *, sha256: str | None, before: str | None, limit: int) -> list[UploadView]:
        """Uploads that wait for parts, newest first."""
        with self.database.read() as session:
            uploads = Uploads(session)
            rows = uploads.page(project_id, sha256=sha256, before=before, limit=limit)
            received = uploads.received([upload.id for upload in rows])
            return [UploadView(upload, *received.get(upload.id, (0, 0))) for upload in rows]

    def size_of_part(self, project_id: str, upload_id: str, number: int) -> int:
        """How many bytes a part has to have.

        Raises:
            ConflictError: The upload is complete.
            ServiceError: ``validation-error`` when the file has no such part.
        """
        upload = self.get(project_id, upload_id).upload
        if upload.status != UploadStatus.OPEN:
            raise ConflictError("the upload is complete; nothing can be added")
        if number > num_parts(upload):
            detail = f"number: the upload has {num_parts(upload)} parts"
            finding = {"detail": detail, "parameter": "number", "in": "path"}
            raise ServiceError("validation-error", detail, errors=[finding])
        return part_size(upload, number)

    def keep(self, project_id: str, upload_id: str, number: int, part: Upload) -> None:
        """Keep the bytes of a part that have been checked; the same part again changes nothing.

        Raises:
            ConflictError: The upload was completed in the meantime.
            NotFoundError: It was given up in the meantime.
        """
        folder = self.store.parts(upload_id)
        with self.database.write() as session:
            uploads = Uploads(session)
            upload = uploads.get(project_id, upload_id, lock=True)
            if upload is None:
                raise NotFoundError(f"upload {upload_id}")
            if upload.status != UploadStatus.OPEN:
                raise ConflictError("the upload is complete; nothing can be added")
            # Inside the transaction that holds the upload: a part on record is on the disk, and nobody removes the
            # folder meanwhile.
            folder.mkdir(parents=True, exist_ok=True)
            part.path.replace(folder / _part_name(number, part.sha256))
            earlier = uploads.keep_part(upload_id, number, part.bytes, part.sha256)
            uploads.change(upload_id, expires_at=self._expiry())
        if earlier is not None and earlier != part.sha256:
            (folder / _part_name(number, earlier)).unlink(missing_ok=True)

    def complete(self, project_id: str, upload_id: str) -> tuple[str, bool]:
        """Put the parts together, check the digest of the whole and register the data set.

        Returns:
            Id of the data set, and whether an earlier call had made it.

        Raises:
            ConflictError: ``parts-missing``.
            NotFoundError: It was given up in the meantime.
            ServiceError: ``digest-mismatch`` or ``quota-exceeded``; the parts stay and can be sent again.
        """
        view = self.get(project_id, upload_id)
        upload = view.upload
        if upload.dataset_id is not None:
            return upload.dataset_id, True
        parts = view.parts or []
        if len(parts) < num_parts(upload):
            raise ConflictError(f"{num_parts(upload) - len(parts)} of {num_parts(upload)} parts are missing",
                                code="parts-missing")  # fmt: skip
        with self.database.read() as session:
            self.quotas.check(session, project_id, datasets=1)  # others may have come since it was opened
        dataset_id = new_id("ds")
        with self.store.scratch() as scratch:
            path = scratch / "upload"
            try:
                sha256 = _join([self.store.parts(upload_id) / _part_name(part.number, part.sha256) for part in parts],
                               path)  # fmt: skip
            except FileNotFoundError:
                return self._lost(project_id, upload_id)
            if sha256 != upload.sha256:
                detail = f"the parts together have the sha256 {sha256}, announced was {upload.sha256}"
                raise ServiceError("digest-mismatch", detail)
            self.store.add(project_id, path, sha256)
        with self.database.write() as session:
            uploads = Uploads(session)
            current = uploads.get(project_id, upload_id, lock=True)
            if current is None:
                raise NotFoundError(f"upload {upload_id}")
            if current.dataset_id is not None:
                return current.dataset_id, True
            self.quotas.refuse(session, project_id, datasets=1)
            enter(
                session,
                dataset_id,
                project_id,
                Upload(path, sha256, upload.bytes),
                name=upload.name,
                requested=upload.requested,
                metadata=upload.metadata_,
            )
            done = {"status": UploadStatus.COMPLETED, "dataset_id": dataset_id, "expires_at": self._expiry()}
            uploads.change(upload_id, **done)
            uploads.drop_parts(upload_id)
        shutil.rmtree(self.store.parts(upload_id), ignore_errors=True)
        return dataset_id, False

    def _lost(self, project_id: str, upload_id: str) -> tuple[str, bool]:
        """A part was not on the disk: another call has completed the upload, or the file is gone and must come again.

        Raises:
            ConflictError: ``parts-missing``.
        """
        upload = self.get(project_id, upload_id).upload
        if upload.dataset_id is not None:
            return upload.dataset_id, True
        with self.database.write() as session:
            uploads = Uploads(session)
            if uploads.get(project_id, upload_id, lock=True) is not None:
                for part in uploads.parts(upload_id):
                    if not (self.store.parts(upload_id) / _part_name(part.number, part.sha256)).is_file():
                        uploads.drop_part(upload_id, part.number)
        raise ConflictError("parts that had arrived are gone; send them again", code="parts-missing")

    def give_up(self, project_id: str, upload_id: str) -> None:
        """Forget an upload and its parts; the data set of a completed one stays. Again, it changes nothing.

        Raises:
            NotFoundError: There is none of this id in the project.
        """
        with self.database.write() as session:
            uploads, removals = Uploads(session), DeletedIds(session)
            if uploads.get(project_id, upload_id, lock=True) is None:
                if removals.has(project_id, upload_id):
                    return
                raise NotFoundError(f"upload {upload_id}")
            uploads.drop(upload_id)
            removals.note(project_id, upload_id)
        shutil.rmtree(self.store.parts(upload_id), ignore_errors=True)

    def sweep(self) -> int:
        """Remove uploads whose time is over, and folders that a crash has left behind; how many went."""
        with self.database.write() as session:
            uploads = Uploads(session)
            expired = uploads.lock_expired(_SWEEP_AT_ONCE)
            for upload_id in expired:
                uploads.drop(upload_id)
        folders = self.store.part_folders()
        if not folders:
            return len(expired)
        with self.database.read() as session:
            # A folder is only ever made for an upload on record: without one, or with a completed one, it is litter.
            orphans = set(folders) - Uploads(session).open_among(folders)
        for upload_id in orphans:
            shutil.rmtree(self.store.parts(upload_id), ignore_errors=True)
        return len(expired)

    def _expiry(self) -> Any:
        return clock(self.settings.upload_hours * 3600)


def _part_name(number: int, sha256: str) -> str:
    return f"{number:05d}-{sha256}"


def _join(parts: Sequence[Path], path: Path) -> str:
    """Write files one after the other into one; sha256 (hex) of the whole."""
    sha256 = hashlib.sha256()
    with path.open("wb") as out:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(BLOCK_BYTES):
                    sha256.update(block)
                    out.write(block)
    return sha256.hexdigest()
