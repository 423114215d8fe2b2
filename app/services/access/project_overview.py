"""Use case: one project with what it holds and what happened in it lately, in one transaction."""

from __future__ import annotations

from typing import NamedTuple

from app.persistence.repositories import Events, Projects
from app.persistence.session import Database
from app.persistence.tables import Event, Project
from app.services.quotas import Quota, Quotas, Resource


class Overview(NamedTuple):
    """A project.

    Attributes:
        project: Its row.
        quotas: What it has and may have.
        events: Its history, newest first.
    """

    project: Project | None
    quotas: dict[Resource, Quota]
    events: list[Event]


class ProjectOverview:
    """Projects as their members see them.

    Args:
        database: Where the records are.
        quotas: Of projects.
    """

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self.database, self.quotas = database, quotas

    def of(self, project_id: str, *, before: int | None, events: int) -> Overview:
        """One project.

        Args:
            project_id: Which.
            before: Number of the event that those wanted lie before; the latest when None.
            events: Most events.
        """
        with self.database.read() as session:
            return Overview(
                Projects(session).get(project_id),
                self.quotas.all(session, project_id),
                Events(session).latest(project_id, before=before, limit=events),
            )
