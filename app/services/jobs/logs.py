"""Use case of the logs: what workers did for a job, unit by unit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.persistence.repositories import UnitLogs
from app.persistence.session import Database
from app.services.jobs.service import find_job
from app.status import TERMINAL, LogLevel, UnitKind

SETTLED_SECONDS = 1.0
"""Lines of a job that goes on are shown at this age: none of an earlier moment can then turn up behind a cursor."""


@dataclass(frozen=True)
class LoggedLine:
    """A line of the log of a job, with the unit that it is about."""

    id: str
    created_at: datetime
    level: str
    unit_id: str
    unit_kind: UnitKind
    shard: int | None
    attempt: int
    worker: str | None
    code: str
    message: str
    data: dict[str, Any]


class JobLogs:
    """Logs of jobs of one service.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def page(
        self,
        project_id: str,
        job_id: str,
        *,
        after: tuple[datetime, str] | None = None,
        limit: int,
        level: LogLevel = "info",
        unit_id: str | None = None,
    ) -> list[LoggedLine]:
        """Lines behind one, oldest first: of the job's own units, and of those that it shares with other jobs.

        Raises:
            NotFoundError: There is no such job in the project.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by find_job()
        with self.database.read() as session:
            job = find_job(session, project_id, job_id)
            settled = 0.0 if job.status in TERMINAL else SETTLED_SECONDS
            rows = UnitLogs(session).of_job(
                job, after=after, limit=limit, level=level, unit_id=unit_id, settled_seconds=settled
            )
            return [
                LoggedLine(
                    id=line.id,
                    created_at=line.created_at,
                    level=line.level,
                    unit_id=line.unit_id,
                    unit_kind=UnitKind(unit.kind),
                    shard=unit.shard,
                    attempt=line.attempt,
                    worker=line.worker,
                    code=line.code,
                    message=line.message,
                    data=line.data,
                )
                for line, unit in rows
            ]
