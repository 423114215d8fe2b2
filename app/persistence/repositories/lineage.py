"""Queries on how far the history has been told to a lineage service."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import affected, insert_unless_there
from app.persistence.tables import Event, LineageCursor, Project
from app.persistence.types import clock


class LineageCursors:
    """One cursor for each project; whoever holds it delivers, everybody else leaves the project alone."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def waiting(self, limit: int) -> list[str]:
        """Projects with events behind their cursor that nobody delivers at the moment."""
        behind = exists().where(Event.project_id == Project.id, Event.id > func.coalesce(LineageCursor.event_id, 0))
        free = or_(LineageCursor.project_id.is_(None), and_(*_free()))
        query = (
            select(Project.id)
            .outerjoin(LineageCursor, LineageCursor.project_id == Project.id)
            .where(free, behind)
            .order_by(Project.id)
            .limit(limit)
        )
        return list(self.session.scalars(query))

    def take(self, project_id: str, holder: str, seconds: float) -> LineageCursor | None:
        """Hold the cursor of a project for a while; None when somebody else does, or it is not its time."""
        insert_unless_there(self.session, LineageCursor, {"project_id": project_id})
        taken = self.session.execute(
            update(LineageCursor)
            .where(LineageCursor.project_id == project_id, *_free())
            .values(holder=holder, held_until=clock(seconds))
        )
        return self.session.get(LineageCursor, project_id, populate_existing=True) if affected(taken) else None

    def settle(self, project_id: str, holder: str, values: dict[str, Any]) -> bool:
        """Let go of a cursor that is still held, with what came of it."""
        done = self.session.execute(
            update(LineageCursor)
            .where(LineageCursor.project_id == project_id, LineageCursor.holder == holder)
            .values(holder=None, held_until=None, **values)
        )
        return bool(affected(done))


def _free() -> tuple[Any, Any]:
    return (
        or_(LineageCursor.held_until.is_(None), LineageCursor.held_until < clock()),
        or_(LineageCursor.not_before.is_(None), LineageCursor.not_before <= clock()),
    )
