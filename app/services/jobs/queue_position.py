"""Where a job stands in the queue, why it waits, and when it is likely to start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.persistence.repositories import Jobs
from app.persistence.tables import Job


@dataclass(frozen=True)
class QueuePosition:
    """A place in the queue, by priority and age; projects with less running are served first among equals.

    Attributes:
        position: 1 is next.
        ahead_in_project: Jobs of the same project before it.
        reason: ``project_limit`` when the project runs as much as it may, ``waiting_for_gpu`` when every worker that is
            heard of is busy, ``waiting_for_worker`` when none is at work.
        estimated_start_at: From the mean time of the last jobs; None while there were none.
    """

    position: int
    ahead_in_project: int
    reason: str
    estimated_start_at: datetime | None


def queue_position(session: Session, job: Job) -> QueuePosition:
    """The place of a queued job."""
    facts = Jobs(session).queue_facts(job)
    if facts.limit is not None and facts.live_own >= facts.limit:
        reason = "project_limit"
    else:
        reason = "waiting_for_gpu" if facts.live else "waiting_for_worker"
    start = None
    if facts.mean_seconds is not None and facts.live:
        # Half a job is left, on average, of those that run; as many run at once as are running now.
        start = facts.moment + timedelta(seconds=facts.mean_seconds * (facts.ahead / facts.live + 0.5))
    return QueuePosition(facts.ahead + 1, facts.own, reason, start)
