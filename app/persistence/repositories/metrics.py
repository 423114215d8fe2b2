"""Counts over all projects, for operators: how much there is of what, and how long the oldest has waited."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, func, select, type_coerce
from sqlalchemy.orm import Session

from app.persistence.tables import Dataset, Job, Unit, WebhookDelivery
from app.persistence.types import clock
from app.status import DeliveryState, JobStatus, UnitState

LATEST = 500
"""Jobs and units that are looked at for what happened lately: a scrape stays cheap however many there are."""


@dataclass(frozen=True)
class RecentJob:
    """What one of the latest jobs waited and took: times of its states, seconds of its phases once it has a result."""

    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: dict[str, float] | None


@dataclass(frozen=True)
class RecentUnit:
    """How one of the latest units fared: state, attempts, leases lost, code of its error, when it was last heard."""

    state: str
    attempts: int
    lost_leases: int
    code: str | None
    heard_at: datetime


class MetricQueries:
    """Aggregates only: nothing of a project can be told from them."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def jobs(self) -> dict[str, int]:
        """Jobs by status."""
        return self._counts(select(Job.status, func.count()).where(Job.deleted_at.is_(None)).group_by(Job.status))

    def failures(self) -> dict[str, int]:
        """Failed jobs by the code of their error."""
        code = Job.error["code"].as_string()
        return self._counts(
            select(code, func.count()).where(Job.status == JobStatus.FAILED, Job.deleted_at.is_(None)).group_by(code)
        )

    def datasets(self) -> dict[str, int]:
        """Data sets by status."""
        return self._counts(
            select(Dataset.status, func.count()).where(Dataset.deleted_at.is_(None)).group_by(Dataset.status)
        )

    def waiting(self) -> dict[str, tuple[int, datetime]]:
        """Units that could be taken now, by kind: how many, and since when the oldest."""
        query = (
            select(Unit.kind, func.count(), func.min(Unit.not_before))
            .where(Unit.state == UnitState.PENDING, Unit.not_before <= clock())
            .group_by(Unit.kind)
        )
        return {kind: (count, since) for kind, count, since in self.session.execute(query)}

    def deliveries(self) -> dict[str, int]:
        """Messages to webhook endpoints by state."""
        return self._counts(select(WebhookDelivery.state, func.count()).group_by(WebhookDelivery.state))

    def overdue_delivery(self) -> datetime | None:
        """Since when the message that has waited longest could be sent; None when none waits."""
        query = select(func.min(WebhookDelivery.not_before)).where(
            WebhookDelivery.state == DeliveryState.PENDING, WebhookDelivery.not_before <= clock()
        )
        return self.session.scalars(query).one()

    def held(self) -> list[tuple[str, str, datetime, datetime]]:
        """Units under a lease: kind, owner, last heartbeat, end of the lease."""
        query = select(Unit.kind, Unit.owner, Unit.heartbeat_at, Unit.started_at, Unit.lease_until).where(
            Unit.state == UnitState.LEASED
        )
        rows = self.session.execute(query)
        return [
            (kind, owner or "", heard or started or until, until)
            for kind, owner, heard, started, until in rows
            if until
        ]

    def recent_jobs(self) -> list[RecentJob]:
        """The latest jobs of all states, latest first."""
        seconds = type_coerce(Job.result, JSON)["seconds"]
        query = select(Job.created_at, Job.started_at, Job.finished_at, seconds).order_by(Job.id.desc()).limit(LATEST)
        return [RecentJob(*row) for row in self.session.execute(query)]

    def recent_units(self) -> list[RecentUnit]:
        """The latest units that a worker has had, latest first."""
        heard = func.coalesce(Unit.finished_at, Unit.heartbeat_at, Unit.created_at)
        latest = select(Unit.id).order_by(Unit.id.desc()).limit(LATEST).subquery()
        query = select(
            Unit.state, Unit.attempts, Unit.lost_leases, type_coerce(Unit.error, JSON)["code"].as_string(), heard
        )
        found = self.session.execute(query.join(latest, latest.c.id == Unit.id).where(Unit.attempts > 0))
        return [RecentUnit(*row) for row in found]

    def _counts(self, query: Any) -> dict[str, int]:
        return {str(name): count for name, count in self.session.execute(query)}
