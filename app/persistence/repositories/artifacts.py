"""Queries on what the records name of the artifact store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import JSON, and_, delete, exists, or_, select, tuple_, type_coerce
from sqlalchemy.orm import Session

from app.persistence.repositories.datasets import Datasets
from app.persistence.repositories.rows import insert_or_change, insert_unless_there
from app.persistence.tables import DataFolder, Evaluation, File, Job, ObsoleteArtifact, Unit, UnitCommit
from app.persistence.types import clock
from app.status import ACTIVE, EVALUATING, UnitKind, UnitState


class Artifacts:
    """What is still needed of stored files, and what is to be removed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def needed(self, project_id: str, digests: Sequence[str]) -> set[str]:
        """Those of some digests that a record of the project names: of a data set, of a result, of work that counts.

        What the parts of a job or the trainings of an evaluation left behind counts until that job or evaluation ends.
        """
        files = select(File.sha256).where(File.project_id == project_id, File.sha256.in_(digests))
        goes_on = or_(
            Unit.kind.in_((UnitKind.GRADIENTS, UnitKind.WARMUP)),
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
        return {found for found in self.session.scalars(query) if found is not None}

    def mark_obsolete(self, project_id: str, digests: Iterable[str]) -> None:
        """Write down that files are to be removed unless something else names them, with the record that named them."""
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
        mine = ObsoleteArtifact.project_id == project_id
        return list(self.session.scalars(select(ObsoleteArtifact).where(mine, ObsoleteArtifact.sha256.in_(digests))))

    def unmark(self, seen: Iterable[ObsoleteArtifact]) -> None:
        """Forget about files that are removed or named, unless they were marked again meanwhile."""
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
