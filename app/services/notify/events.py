"""Use cases of the history: pages of it, and what is new in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.errors import NotFoundError
from app.persistence.repositories import Events, Jobs
from app.persistence.session import Database
from app.persistence.tables import Event
from app.status import TERMINAL, JobStatus

LAST_EVENTS = frozenset(f"job.{status}" for status in TERMINAL)
"""Types after which a job has no further event."""


class EventService:
    """The history of one service.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def page(
        self,
        project_id: str,
        *,
        after: int,
        limit: int,
        job_id: str | None = None,
        dataset_id: str | None = None,
        evaluation_id: str | None = None,
        types: Sequence[str] = (),
    ) -> list[Event]:
        """Events behind a number, oldest first."""
        with self.database.read() as session:
            return Events(session).page(
                project_id,
                after=after,
                limit=limit,
                job_id=job_id,
                dataset_id=dataset_id,
                evaluation_id=evaluation_id,
                types=types,
            )

    def job_has_ended(self, project_id: str, job_id: str) -> bool:
        """Whether a job is in a terminal state.

        Raises:
            NotFoundError: There is no such job in the project.
        """
        with self.database.read() as session:
            job = Jobs(session).get(project_id, job_id)
        if job is None:
            raise NotFoundError(f"job {job_id}")
        return JobStatus(job.status) in TERMINAL

    def behind(self, cursors: Mapping[str, int], limit: int) -> list[Event]:
        """The next events of several projects, each behind its own number."""
        with self.database.read() as session:
            return Events(session).behind(cursors, limit)

    def last(self, project_id: str) -> int:
        """Number of the project's latest event; 0 without one."""
        with self.database.read() as session:
            return Events(session).last(project_id)
