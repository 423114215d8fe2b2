"""Queries on the log of units: what workers did, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from app.ids import new_id
from app.persistence.repositories.job_units import prepares
from app.persistence.repositories.rows import affected, insert_all
from app.persistence.tables import Job, Unit, UnitLogLine
from app.persistence.types import clock
from app.status import LOG_LEVELS, LogLevel, UnitKind

MOST_LINES = 1000
"""Lines of a unit that are kept: what goes round in circles must not fill the database."""
MOST_MESSAGE = 500
BATCH_LINES = 5000


@dataclass(frozen=True)
class LogLine:
    """Something that a worker did or met.

    Attributes:
        level: How much it matters.
        code: What kind of line it is: ``claimed``, ``phase_began``, ``phase_ended``, ``committed``, ``given_back``, or
            the code of an error.
        message: A sentence for a person.
        data: Numbers of it.
    """

    level: LogLevel
    code: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Writer:
    """Who writes: the unit, its project, and the attempt and worker that do it."""

    unit_id: str
    project_id: str
    attempt: int
    worker: str | None


class UnitLogs:
    """Logs of units."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def write(self, writer: Writer, lines: Sequence[LogLine]) -> None:
        """Append lines, unless the unit has its most already. No lease is needed: what was done was done."""
        if not lines:
            return
        kept = select(func.count()).select_from(UnitLogLine).where(UnitLogLine.unit_id == writer.unit_id)
        room = MOST_LINES - self.session.scalars(kept).one()
        ids = sorted(new_id("log") for _ in lines)
        rows = [
            {
                "id": line_id,
                "unit_id": writer.unit_id,
                "project_id": writer.project_id,
                "attempt": writer.attempt,
                "worker": writer.worker,
                "level": line.level,
                "code": line.code,
                "message": line.message[:MOST_MESSAGE],
                "data": line.data,
            }
            for line_id, line in zip(ids, lines, strict=True)
        ]
        insert_all(self.session, UnitLogLine, rows[: max(0, room)], "created_at")

    def of_job(
        self,
        job: Job,
        *,
        after: tuple[datetime, str] | None,
        limit: int,
        level: LogLevel = "info",
        unit_id: str | None = None,
        settled_seconds: float = 0.0,
    ) -> list[tuple[UnitLogLine, Unit]]:
        """Lines of a job's units and of those it shares with other jobs of its project, oldest first.

        Args:
            job: The job.
            after: Time and id of the line that these are behind.
            limit: Most lines.
            level: Least level.
            unit_id: Only of this unit.
            settled_seconds: Age below which lines are held back: one of an earlier moment may still be on its way.
        """
        line = UnitLogLine
        sets = [name for name in (job.gradient_set_id, job.target_gradient_set_id) if name]
        shared = and_(Unit.gradient_set_id.in_(sets), Unit.job_id.is_(None), Unit.kind == UnitKind.GRADIENTS)
        query = (
            select(line, Unit)
            .join(Unit, Unit.id == line.unit_id)
            .where(line.project_id == job.project_id, or_(Unit.job_id == job.id, shared, prepares(sets)))
        )
        if after is not None:
            moment, last = after
            query = query.where(or_(line.created_at > moment, and_(line.created_at == moment, line.id > last)))
        if unit_id is not None:
            query = query.where(line.unit_id == unit_id)
        if level != LOG_LEVELS[0]:
            query = query.where(line.level.in_(LOG_LEVELS[LOG_LEVELS.index(level) :]))
        if settled_seconds:
            query = query.where(line.created_at < clock(-settled_seconds))
        rows = self.session.execute(query.order_by(line.created_at, line.id).limit(limit))
        return [(written, unit) for written, unit in rows]

    def forget_job(self, job_id: str) -> None:
        """Take the log of a job's own units away."""
        own = select(Unit.id).where(Unit.job_id == job_id)
        self.session.execute(delete(UnitLogLine).where(UnitLogLine.unit_id.in_(own)))

    def forget_older_than(self, seconds: float) -> int:
        """Take some old lines away; how many, up to ``BATCH_LINES``."""
        old = select(UnitLogLine.id).where(UnitLogLine.created_at < clock(-seconds)).limit(BATCH_LINES)
        return affected(self.session.execute(delete(UnitLogLine).where(UnitLogLine.id.in_(old))))
