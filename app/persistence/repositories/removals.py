"""Queries on ids whose rows are gone."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.persistence.tables import DeletedId
from app.persistence.types import clock


class DeletedIds:
    """Ids of a project that were removed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def note(self, project_id: str, id_: str) -> None:
        """Remember an id; its row is locked or gone, so that nobody else notes it."""
        self.session.add(DeletedId(project_id=project_id, id=id_, deleted_at=clock()))

    def has(self, project_id: str, id_: str) -> bool:
        """Whether it was removed."""
        return self.session.get(DeletedId, (project_id, id_)) is not None
