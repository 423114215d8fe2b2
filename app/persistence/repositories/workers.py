"""Queries on the worker processes that are there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import insert_or_change
from app.persistence.tables import Worker
from app.persistence.types import clock


class Workers:
    """What worker processes say about themselves."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def say(self, values: dict[str, Any]) -> None:
        """Write down that a worker lives, and the memory it can have."""
        insert_or_change(self.session, Worker, {**values, "seen_at": clock()}, ["name"])

    def live(self, seconds: float) -> list[Worker]:
        """Workers that were heard of lately."""
        return list(self.session.scalars(select(Worker).where(Worker.seen_at > clock(-seconds)).order_by(Worker.name)))

    def leave(self, name: str, silent_seconds: float) -> None:
        """Forget a worker, and those that have been silent for so long."""
        self.session.execute(delete(Worker).where((Worker.name == name) | (Worker.seen_at < clock(-silent_seconds))))
