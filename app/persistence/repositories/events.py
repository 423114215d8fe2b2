"""Queries on the append-only history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.persistence.tables import Event
from app.persistence.types import clock


class Events:
    """History of jobs and data sets."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def append(
        self,
        project_id: str,
        type_: str,
        *,
        job_id: str | None = None,
        dataset_id: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Write one line of history."""
        values = {"project_id": project_id, "job_id": job_id, "dataset_id": dataset_id, "type": type_}
        self.session.execute(insert(Event).values(**values, data=data or {}, created_at=clock()))

    def of_job(self, job_id: str, *, after: int, limit: int) -> list[Event]:
        """Events of a job after a sequence number, oldest first."""
        query = select(Event).where(Event.job_id == job_id, Event.id > after).order_by(Event.id).limit(limit)
        return list(self.session.scalars(query))
