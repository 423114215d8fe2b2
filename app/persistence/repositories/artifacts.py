"""Queries on files: what the records name of the artifact store, and what is sent in parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import JSON, and_, delete, exists, func, or_, select, tuple_, type_coerce, update
from sqlalchemy.orm import Session

from app.persistence.repositories.datasets import Datasets
from app.persistence.repositories.rows import insert_or_change, insert_unless_there
from app.persistence.tables import (
    DataFolder,
    Evaluation,
    File,
    Job,
    ObsoleteArtifact,
    PartUpload,
    Unit,
    UnitCommit,
    UploadedPart,
)
from app.persistence.types import clock
from app.status import ACTIVE, EVALUATING, PREPARING, UnitKind, UnitState, UploadStatus


class Artifacts:
    """Which stored files are needed, and which are obsolete."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def needed(self, project_id: str, digests: Sequence[str]) -> set[str]:
        """Those of some digests that a record of the project names: of a data set, of a result, of work that counts.

        What the parts of a job or the trainings of an evaluation left behind counts until that job or evaluation ends.
        """
        files = select(File.sha256).where(File.project_id == project_id, File.sha256.in_(digests))
        goes_on = or_(
            Unit.kind.in_((UnitKind.GRADIENTS, *PREPARING)),
            exists().where(Job.id == Unit.job_id, Job.status.in_(ACTIVE)),
            exists().where(Evaluation.id == Unit.evaluation_id, Evaluation.status.in_(EVALUATING)),
        )
        made = (
            select(UnitCommit.artifact_sha256)
            .join(Unit, and_(Unit.id == UnitCommit.unit_id, Unit.generation == UnitCommit.generation))
            .where(
                Unit.project_id == project_id,
                Unit.state == UnitState.DONE,
                UnitCommit.artifact_sha256.in_(digests),
                goes_on,
            )
        )
        named = {*self.session.scalars(files), *self.session.scalars(made)} | Datasets(self.session).stored(project_id)
        return {digest for digest in digests if digest in named}

    def remote_objects(self) -> set[str]:
        """Names of the gradients at an address that a record of any project names, of work that counts."""
        name = type_coerce(UnitCommit.result, JSON)["object"].as_string()
        query = (
            select(name)
            .join(Unit, and_(Unit.id == UnitCommit.unit_id, Unit.generation == UnitCommit.generation))
            .where(Unit.kind == UnitKind.GRADIENTS, Unit.state == UnitState.DONE)
        )
        return {object_name for object_name in self.session.scalars(query) if object_name is not None}

    def mark_obsolete(self, project_id: str, digests: Iterable[str]) -> None:
        """Mark files as obsolete: they are removed unless another record names them."""
        for digest in sorted(set(digests)):
            row = {"project_id": project_id, "sha256": digest, "marked_at": clock()}
            insert_or_change(self.session, ObsoleteArtifact, row, ["project_id", "sha256"])

    def obsolete(self, limit: int, *, after: tuple[str, str] = ("", "")) -> list[ObsoleteArtifact]:
        """Files to be removed, project by project."""
        place = tuple_(ObsoleteArtifact.project_id, ObsoleteArtifact.sha256)
        query = select(ObsoleteArtifact).where(place > tuple_(*after))
        return list(
            self.session.scalars(query.order_by(ObsoleteArtifact.project_id, ObsoleteArtifact.sha256).limit(limit))
        )

    def obsolete_among(self, project_id: str, digests: Sequence[str]) -> list[ObsoleteArtifact]:
        """Those of some files that are to be removed."""
        in_project = ObsoleteArtifact.project_id == project_id
        return list(
            self.session.scalars(select(ObsoleteArtifact).where(in_project, ObsoleteArtifact.sha256.in_(digests)))
        )

    def unmark(self, seen: Iterable[ObsoleteArtifact]) -> None:
        """Unmark files that are removed or named, unless they were marked again meanwhile."""
        for row in seen:
            same = ObsoleteArtifact.project_id == row.project_id, ObsoleteArtifact.sha256 == row.sha256
            self.session.execute(delete(ObsoleteArtifact).where(*same, ObsoleteArtifact.marked_at == row.marked_at))

    def data_folder(self) -> str | None:
        """Name of the data folder that the records belong to; None as long as no API has started."""
        return self.session.scalar(select(DataFolder.name))

    def record_data_folder(self, name: str, *, replace: bool) -> None:
        """Write down the data folder that the records belong to.

        Args:
            name: Its name.
            replace: Whether it takes the place of another; otherwise the first one stays.
        """
        row = {"number": 1, "name": name, "recorded_at": clock()}
        if replace:
            insert_or_change(self.session, DataFolder, row, ["number"])
        else:
            insert_unless_there(self.session, DataFolder, row)


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
        return {upload_id: (number, int(size)) for upload_id, number, size in self.session.execute(query)}

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
        """Some that have expired, unless another process has locked them."""
        query = select(PartUpload.id).where(PartUpload.expires_at <= clock()).limit(limit)
        return list(self.session.scalars(query.with_for_update(skip_locked=True)))

    def open_among(self, upload_ids: Sequence[str]) -> set[str]:
        """Those of the ids that wait for parts."""
        query = select(PartUpload.id).where(PartUpload.id.in_(upload_ids), PartUpload.status == UploadStatus.OPEN)
        return set(self.session.scalars(query))
