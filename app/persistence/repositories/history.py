"""Queries on what has happened: events, how long past units took, counts for the metrics, workers that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, and_, bindparam, delete, event, func, insert, or_, select, type_coerce
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from app.persistence.repositories.rows import insert_or_change, table_of
from app.persistence.repositories.webhooks import WebhookEndpoints, WebhookMessage, queue_deliveries
from app.persistence.tables import (
    Dataset,
    Evaluation,
    Event,
    GradientSet,
    Job,
    Unit,
    UnitCommit,
    WebhookDelivery,
    Worker,
)
from app.persistence.types import clock
from app.status import DeliveryState, JobStatus, UnitKind, UnitState

PENDING = "pending_events"
LOCK_CLASS = 0x5350
"""First half of the advisory lock's key, so that it meets no other use of such locks."""

_TABLE = table_of(Event)
_GIVEN = ("project_id", "job_id", "dataset_id", "evaluation_id", "type", "data")


def _insert() -> ReturningInsert[int, datetime]:
    """Write an event under the project's next number.

    The project must be locked by a statement before: this one sees of the history what was committed when it began.
    """
    last = select(func.coalesce(func.max(_TABLE.c.id), 0)).where(_TABLE.c.project_id == bindparam("project_id"))
    given = [bindparam(name, type_=_TABLE.c[name].type) for name in _GIVEN]
    source = select(last.scalar_subquery() + 1, *given, clock())
    return insert(_TABLE).from_select(["id", *_GIVEN, "created_at"], source).returning(_TABLE.c.id, _TABLE.c.created_at)


_INSERT = _insert()
_LOCK = select(func.pg_advisory_xact_lock(LOCK_CLASS, func.hashtext(bindparam("project_id"))))


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
        evaluation_id: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Write one line of history, in the last step of the transaction."""
        pending = self.session.info.get(PENDING)
        if pending is None:
            pending = self.session.info[PENDING] = []
            event.listen(self.session, "before_commit", _write_pending, once=True)
        values = {"project_id": project_id, "job_id": job_id, "dataset_id": dataset_id, "type": type_}
        values["evaluation_id"] = evaluation_id
        pending.append({**values, "data": data or {}})

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
        """Events of a project, or of one of its jobs, data sets or evaluations, behind a number, oldest first."""
        query = select(Event).where(Event.project_id == project_id, Event.id > after)
        if job_id is not None:
            query = query.where(Event.job_id == job_id)
        if dataset_id is not None:
            query = query.where(Event.dataset_id == dataset_id)
        if evaluation_id is not None:
            query = query.where(Event.evaluation_id == evaluation_id)
        if types:
            query = query.where(Event.type.in_(types))
        return list(self.session.scalars(query.order_by(Event.id).limit(limit)))

    def latest(self, project_id: str, *, before: int | None, limit: int) -> list[Event]:
        """Events of a project before a number, newest first."""
        query = select(Event).where(Event.project_id == project_id)
        if before is not None:
            query = query.where(Event.id < before)
        return list(self.session.scalars(query.order_by(Event.id.desc()).limit(limit)))

    def behind(self, cursors: Mapping[str, int], limit: int) -> list[Event]:
        """The next events of several projects, each behind its own number, in one query; in order within a project."""
        places = [and_(Event.project_id == project, Event.id > number) for project, number in cursors.items()]
        return list(self.session.scalars(select(Event).where(or_(*places)).order_by(Event.id).limit(limit)))

    def last(self, project_id: str) -> int:
        """Number of the project's latest event; 0 without one."""
        return self.session.scalar(select(func.max(Event.id)).where(Event.project_id == project_id)) or 0


def _write_pending(session: Session) -> None:
    session.flush()
    # Sorted, and the last locks that any transaction takes: two of them cannot wait for each other.
    pending = sorted(session.info.pop(PENDING), key=itemgetter("project_id"))
    projects = dict.fromkeys(values["project_id"] for values in pending)
    # Whatever can be read before the lock is: between it and the end of the commit a project stands still.
    listening = {project_id: WebhookEndpoints(session).listening(project_id) for project_id in projects}
    if session.get_bind().dialect.name == "postgresql":  # on SQLite there is one writer at a time
        for project_id in projects:
            session.execute(_LOCK, {"project_id": project_id})
    for values in pending:
        number, moment = session.execute(_INSERT, values).one()
        project_id, shown = values["project_id"], {name: values[name] for name in _GIVEN if name != "project_id"}
        queue_deliveries(
            session, project_id, listening[project_id], WebhookMessage(id=number, created_at=moment, **shown)
        )


LATEST = 50


@dataclass(frozen=True)
class RecordedShard:
    """A gradient shard that was computed.

    Attributes:
        rows_sha256: Digest (hex) of the rows of its data set.
        config: Proxy, revision and gradient settings of its set.
        text_bytes: Text of its rows in bytes; None for data sets that were read before this was counted.
        result: What its worker reported; ``tokens`` and ``seconds`` are there.
    """

    rows_sha256: str | None
    config: dict[str, Any]
    text_bytes: int | None
    result: dict[str, Any]


@dataclass(frozen=True)
class RecordedSelection:
    """A choice that was made: settings of the job, sizes, and the seconds of choosing alone."""

    config: dict[str, Any]
    pool: int
    selected: int
    seconds: float


@dataclass(frozen=True)
class RecordedTraining:
    """A training of an evaluation: how it was tuned, tokens it saw, seconds with the losses after it."""

    tuning: str
    tokens: int
    seconds: float


class RunHistory:
    """The latest measurements of one project: what another one has measured, and how long it took, is its own affair.

    Args:
        session: The running transaction.
        project_id: Whose.
    """

    def __init__(self, session: Session, project_id: str) -> None:
        self.session = session
        self.project_id = project_id

    def shards(self) -> list[RecordedShard]:
        """Gradient shards, latest first."""
        query = (
            select(Unit.shard, Dataset.shards, Dataset.rows_sha256, GradientSet.config, UnitCommit.result)
            .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
            .join(GradientSet, GradientSet.id == Unit.gradient_set_id)
            .join(Dataset, Dataset.id == Unit.dataset_id)
            .where(Unit.project_id == self.project_id)
            .where(Unit.kind == UnitKind.GRADIENTS, Unit.state == UnitState.DONE)
            .order_by(Unit.id.desc())
            .limit(LATEST)
        )
        recorded = []
        for shard, stored, rows_sha256, config, result in self.session.execute(query):
            if not {"tokens", "seconds"} <= result.keys() or "adopted_from" in result:
                continue  # of a worker that did not report them yet, or measured for another data set and counted there
            here = (stored or [])[shard : shard + 1]
            recorded.append(RecordedShard(rows_sha256, config, here[0].get("text_bytes") if here else None, result))
        return recorded

    def selections(self) -> list[RecordedSelection]:
        """Selections of jobs that succeeded, latest first."""
        result = type_coerce(Job.result, JSON)
        query = (
            select(
                Job.config,
                result["pool"].as_integer(),
                result["selected"].as_integer(),
                result["seconds"]["selecting"].as_float(),
            )
            .where(Job.project_id == self.project_id, Job.status == JobStatus.SUCCEEDED)
            .order_by(Job.id.desc())
            .limit(LATEST)
        )
        return [
            RecordedSelection(config, pool, selected, seconds)
            for config, pool, selected, seconds in self.session.execute(query)
            if None not in (pool, selected, seconds) and config.keys() >= {"selection", "gradients"}
        ]

    def trainings(self, revision: str) -> list[RecordedTraining]:
        """Trainings of a model of this revision, latest first."""
        query = (
            select(Evaluation.config, UnitCommit.result)
            .join(Unit, Unit.evaluation_id == Evaluation.id)
            .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
            .where(Unit.kind == UnitKind.EVALUATION_TRAINING, Unit.state == UnitState.DONE)
            .where(Evaluation.project_id == self.project_id, Evaluation.model_revision == revision)
            .order_by(Unit.id.desc())
            .limit(LATEST)
        )
        return [
            RecordedTraining(str((config.get("training") or {}).get("tuning")), result["tokens"], result["seconds"])
            for config, result in self.session.execute(query)
            if result.get("tokens")  # a worker of an older version did not report them
        ]


MOST_RECENT = 500
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
        query = (
            select(Job.created_at, Job.started_at, Job.finished_at, seconds).order_by(Job.id.desc()).limit(MOST_RECENT)
        )
        return [RecentJob(*row) for row in self.session.execute(query)]

    def recent_units(self) -> list[RecentUnit]:
        """The latest units that a worker has had, latest first."""
        heard = func.coalesce(Unit.finished_at, Unit.heartbeat_at, Unit.created_at)
        latest = select(Unit.id).order_by(Unit.id.desc()).limit(MOST_RECENT).subquery()
        query = select(
            Unit.state, Unit.attempts, Unit.lost_leases, type_coerce(Unit.error, JSON)["code"].as_string(), heard
        )
        rows = self.session.execute(query.join(latest, latest.c.id == Unit.id).where(Unit.attempts > 0))
        return [RecentUnit(*row) for row in rows]

    def _counts(self, query: Any) -> dict[str, int]:
        return {str(name): count for name, count in self.session.execute(query)}


class Workers:
    """Worker processes that are registered."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def register(self, values: dict[str, Any]) -> None:
        """Write down that a worker lives, and its memory."""
        insert_or_change(self.session, Worker, {**values, "seen_at": clock()}, ["name"])

    def live(self, seconds: float) -> list[Worker]:
        """Workers that registered lately."""
        return list(self.session.scalars(select(Worker).where(Worker.seen_at > clock(-seconds)).order_by(Worker.name)))

    def deregister(self, name: str, silent_seconds: float) -> None:
        """Forget a worker, and those that have been silent for so long."""
        self.session.execute(delete(Worker).where((Worker.name == name) | (Worker.seen_at < clock(-silent_seconds))))
