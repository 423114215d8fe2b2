"""Queries on schedules."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import affected
from app.persistence.tables import Dataset, Schedule
from app.persistence.types import clock
from app.status import DatasetStatus

MOST_VERSIONS = 10_000
"""Versions of a data set that are followed."""


class Schedules:
    """Schedules; every read on behalf of a client goes through the project."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, schedule: Schedule) -> None:
        """Insert a new schedule."""
        self.session.add(schedule)
        self.session.flush()

    def get(self, project_id: str, schedule_id: str, *, lock: bool = False) -> Schedule | None:
        """The schedule, unless it is another project's; locked until the end of the transaction on demand."""
        query = select(Schedule).where(Schedule.id == schedule_id, Schedule.project_id == project_id)
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[Schedule]:
        """Newest first, starting behind an id."""
        query = select(Schedule).where(Schedule.project_id == project_id)
        if before is not None:
            query = query.where(Schedule.id < before)
        return list(self.session.scalars(query.order_by(Schedule.id.desc()).limit(limit)))

    def count(self, project_id: str) -> int:
        """How many a project has."""
        return self.session.scalars(
            select(func.count()).select_from(Schedule).where(Schedule.project_id == project_id)
        ).one()

    def remove(self, schedule_id: str) -> None:
        """Take a schedule away."""
        self.session.execute(delete(Schedule).where(Schedule.id == schedule_id))

    def due(self, limit: int) -> list[Schedule]:
        """Schedules whose time has come, the one that has waited longest first."""
        query = select(Schedule).where(Schedule.paused.is_(False), Schedule.next_fire_at <= clock())
        return list(self.session.scalars(query.order_by(Schedule.next_fire_at).limit(limit)))

    def advance(self, schedule: Schedule, values: dict[str, Any]) -> bool:
        """Write down how a time went; False when somebody else has, or the schedule was changed meanwhile."""
        statement = (
            update(Schedule)
            .where(Schedule.id == schedule.id, Schedule.next_fire_at == schedule.next_fire_at)
            .values(**values, last_fire_at=clock(), version=Schedule.version + 1)
        )
        return affected(self.session.execute(statement)) == 1

    def newest_version(self, project_id: str, dataset_id: str) -> Dataset | None:
        """The newest data set that is ready among those appended to one, or registered under its name since; or itself.

        Args:
            project_id: Owner.
            dataset_id: The first version.
        """
        first = self.session.scalars(
            select(Dataset).where(Dataset.id == dataset_id, Dataset.project_id == project_id)
        ).one_or_none()
        if first is None:
            return None
        same = [Dataset.appended_to == first.id]
        if first.name is not None:
            same.append(Dataset.name == first.name)
        known, found = {first.id}, [first]
        while same and len(known) < MOST_VERSIONS:
            later = self.session.scalars(
                select(Dataset).where(
                    Dataset.project_id == project_id,
                    Dataset.id > first.id,
                    Dataset.id.not_in(known),
                    Dataset.internal.is_(False),
                    or_(*same),
                )
            ).all()
            found += later
            known |= {one.id for one in later}
            same = [Dataset.appended_to.in_([one.id for one in later])] if later else []
        usable = [one for one in found if one.status == DatasetStatus.READY and one.deleted_at is None]
        return max(usable, key=lambda one: one.id, default=None)
