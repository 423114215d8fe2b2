"""Queries on gradient sets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import insert_unless_there
from app.persistence.tables import GradientSet
from app.persistence.types import clock
from app.status import GradientSetStatus


class GradientSets:
    """Gradient sets, found by the fingerprint of everything that decides their values."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add_unless_there(self, row: dict[str, Any]) -> bool:
        """Insert the set unless the project has one of this fingerprint."""
        return insert_unless_there(self.session, GradientSet, row)

    def by_fingerprint(self, project_id: str, fingerprint: str) -> GradientSet | None:
        """The set of a fingerprint."""
        query = select(GradientSet).where(GradientSet.project_id == project_id, GradientSet.fingerprint == fingerprint)
        return self.session.scalars(query).one_or_none()

    def lock_by_fingerprint(self, project_id: str, fingerprint: str) -> GradientSet | None:
        """The set of a fingerprint, locked against others until the transaction ends."""
        query = select(GradientSet).where(GradientSet.project_id == project_id, GradientSet.fingerprint == fingerprint)
        return self.session.scalars(query.with_for_update()).one_or_none()

    def lock(self, gradient_set_id: str) -> GradientSet:
        """The set, locked, so that of two last shards one sees the other done."""
        query = select(GradientSet).where(GradientSet.id == gradient_set_id)
        return self.session.scalars(query.with_for_update().execution_options(populate_existing=True)).one()

    def get(self, project_id: str, gradient_set_id: str) -> GradientSet | None:
        """The set, unless it is another project's."""
        query = select(GradientSet).where(GradientSet.id == gradient_set_id, GradientSet.project_id == project_id)
        return self.session.scalars(query).one_or_none()

    def of_warmup(self, unit_id: str) -> list[GradientSet]:
        """The sets that are taken after a warm-up, in the order in which sets are locked."""
        query = select(GradientSet).where(GradientSet.warmup_unit_id == unit_id)
        return list(self.session.scalars(query.order_by(GradientSet.id)))

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[GradientSet]:
        """Newest first, starting behind an id."""
        query = select(GradientSet).where(GradientSet.project_id == project_id)
        if before is not None:
            query = query.where(GradientSet.id < before)
        return list(self.session.scalars(query.order_by(GradientSet.id.desc()).limit(limit)))

    def set_status(
        self, gradient_set_id: str, status: GradientSetStatus, *, error: dict[str, Any] | None = None
    ) -> None:
        """Change the state of the set."""
        values: dict[str, Any] = {"status": status, "error": error}
        values["ready_at"] = clock() if status is GradientSetStatus.READY else None
        self.session.execute(update(GradientSet).where(GradientSet.id == gradient_set_id).values(**values))
