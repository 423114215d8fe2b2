"""Queries on projects."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import affected
from app.persistence.tables import Project


class Projects:
    """Projects."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, project: Project) -> None:
        """Insert a new project."""
        self.session.add(project)
        self.session.flush()

    def get(self, project_id: str) -> Project | None:
        """One project."""
        return self.session.get(Project, project_id)

    def all(self) -> list[Project]:
        """Every project, oldest first."""
        return list(self.session.scalars(select(Project).order_by(Project.created_at, Project.id)))

    def limit(self, project_id: str, max_running_units: int | None) -> bool:
        """Set how many units of the project may run at a time; False when there is no such project."""
        statement = update(Project).where(Project.id == project_id).values(max_running_units=max_running_units)
        return affected(self.session.execute(statement)) == 1
