"""Queries on jobs, their rankings and files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    inspect,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session, aliased

from app.persistence.repositories.job_units import waits_for
from app.persistence.repositories.rows import ListFilter, affected, insert_all, insert_into, table_of
from app.persistence.repositories.unit_logs import UnitLogs
from app.persistence.tables import Dataset, File, GradientSet, Job, Project, SelectedSample, Unit
from app.persistence.types import clock, seconds_between
from app.status import ACTIVE, JobStatus, UnitState

LATEST = 20
"""Jobs that succeeded last, whose mean time says how long a job takes."""


@dataclass(frozen=True)
class QueueFacts:
    """What decides when a queued job begins.

    Attributes:
        ahead: Queued jobs that are served before, at most: of other projects as many as of its own.
        own: Those of them that are of the same project.
        limit: Units that the project may have running; None for any number.
        live: Units that are being worked on.
        live_own: Those of them that are of the same project.
        mean_seconds: Mean time from start to end of the jobs that succeeded last; None before the first.
        moment: The database's clock.
    """

    ahead: int
    own: int
    limit: int | None
    live: int
    live_own: int
    mean_seconds: float | None
    moment: datetime


def prepared_by(unit_id: Any) -> ColumnElement[bool]:
    """The condition that a job needs gradients that wait for this warm-up or prefilter.

    Args:
        unit_id: Id of its unit, or a column of it.
    """
    sets = select(GradientSet.id).where(waits_for(unit_id))
    return or_(Job.gradient_set_id.in_(sets), Job.target_gradient_set_id.in_(sets))


# Statements of the busiest routes are built once: building one costs more than running it.
_MINE = select(Job).where(
    Job.id == bindparam("job_id"), Job.project_id == bindparam("project_id"), Job.deleted_at.is_(None)
)
_HOLD = _MINE.with_for_update(read=True, key_share=True).execution_options(populate_existing=True)


def _queue_facts() -> Select[Any]:
    """What decides when a queued job begins, in one statement."""
    job_id: BindParameter[str] = bindparam("job_id")
    project_id: BindParameter[str] = bindparam("project_id")
    priority: BindParameter[int] = bindparam("priority")
    earlier = or_(Job.priority > priority, and_(Job.priority == priority, Job.id < job_id))
    own = (
        select(func.count())
        .select_from(Job)
        .where(Job.status == JobStatus.QUEUED, Job.project_id == project_id, earlier)
        .scalar_subquery()
    )
    waiting = (
        select(func.count().label("jobs"))
        .select_from(Job)
        .where(Job.status == JobStatus.QUEUED, Job.project_id != project_id)
        .group_by(Job.project_id)
        .subquery()
    )
    # Projects are served in turn: before this job each other one gets as many as its own project does.
    others = select(func.coalesce(func.sum(case((waiting.c.jobs < own + 1, waiting.c.jobs), else_=own + 1)), 0))
    limit = select(Project.max_running_units).where(Project.id == project_id).scalar_subquery()
    live = select(func.count()).select_from(Unit).where(Unit.state == UnitState.LEASED, Unit.lease_until >= clock())
    last = aliased(Job)
    spans = (
        select(seconds_between(last.started_at, last.finished_at).label("seconds"))
        .where(last.status == JobStatus.SUCCEEDED, last.project_id == project_id)  # what others' jobs take is theirs
        .order_by(last.id.desc())
        .limit(LATEST)
        .subquery()
    )
    return select(
        own + cast(others.scalar_subquery(), Integer),  # PostgreSQL sums integers to numeric
        own,
        limit,
        live.scalar_subquery(),
        live.where(Unit.project_id == project_id).scalar_subquery(),
        select(func.avg(spans.c.seconds)).scalar_subquery(),
        clock(),
    )


_QUEUE_FACTS = _queue_facts()
_INSERT = insert_into(Job, "created_at").returning(table_of(Job))
_COLUMNS = {attribute.key: attribute.columns[0].name for attribute in inspect(Job).column_attrs}
"""Attributes of a job and their columns."""


class Jobs:
    """Jobs; every read on behalf of a client goes through the project."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, values: dict[str, Any], deadline_seconds: float | None) -> Job:
        """Insert a new job; what comes back has the times and the defaults of the database, and no session."""
        columns = {_COLUMNS[name]: value for name, value in values.items()}
        statement = _INSERT if deadline_seconds is None else _INSERT.values(deadline_at=clock(deadline_seconds))
        stored = self.session.execute(statement, columns).one()._mapping
        return Job(**{name: stored[column] for name, column in _COLUMNS.items()})

    def get(self, project_id: str, job_id: str) -> Job | None:
        """The job, unless it is another project's or deleted."""
        return self.session.scalars(_MINE, {"job_id": job_id, "project_id": project_id}).one_or_none()

    def with_dataset(self, project_id: str, job_id: str) -> tuple[Job, Dataset] | None:
        """The job and the data set that it selects from, which may be deleted."""
        query = select(Job, Dataset).join(Dataset, Dataset.id == Job.dataset_id)
        found = self.session.execute(
            query.where(Job.id == job_id, Job.project_id == project_id, Job.deleted_at.is_(None))
        ).one_or_none()
        return None if found is None else (found[0], found[1])

    def hold(self, project_id: str, job_id: str) -> Job | None:
        """The same, kept from being deleted until the transaction ends; any number may hold a job at a time."""
        return self.session.scalars(_HOLD, {"job_id": job_id, "project_id": project_id}).one_or_none()

    def get_even_deleted(self, project_id: str, job_id: str) -> Job:
        """The job that a line of history is about."""
        return self.session.scalars(select(Job).where(Job.id == job_id, Job.project_id == project_id)).one()

    def lock_to_delete(self, project_id: str, job_id: str) -> Job | None:
        """The job, deleted or not, locked against whoever would hold it."""
        query = select(Job).where(Job.id == job_id, Job.project_id == project_id).with_for_update()
        return self.session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def is_given(self, job: Job) -> bool:
        """Whether a job that has not ended counts the choice of this one as owned."""
        given = type_coerce(Job.config, JSON)["conditions"]["given_job"].as_string()
        query = select(given).where(Job.project_id == job.project_id, Job.status.in_(ACTIVE), given.is_not(None))
        named = self.session.scalars(query.distinct())
        return any(job.id == one.id for name in named for one in self.given_chain(job.project_id, name))

    def given_chain(self, project_id: str, job_id: str | None) -> list[Job]:
        """A job that is given and those that it adds to in turn, deleted ones as well, the latest first."""
        chain: list[Job] = []
        while job_id is not None:
            chain.append(self.get_even_deleted(project_id, job_id))
            job_id = chain[-1].config["conditions"].get("given_job")
        return chain

    def owned_rows(self, project_id: str, job_id: str | None) -> list[int]:
        """Rows of the source that are owned where a job is given: its own and those of all that it adds to."""
        return [row for job in self.given_chain(project_id, job_id) for row in self.selected_rows(job.id)]

    def forget(self, job_id: str) -> None:
        """Take a job out of sight with its ranking, its files, its log and whatever a person wrote about it.

        The row stays for what refers to it: its history, its units, and jobs that took its choice for given.
        """
        self.session.execute(delete(SelectedSample).where(SelectedSample.job_id == job_id))
        self.session.execute(delete(File).where(File.job_id == job_id))
        UnitLogs(self.session).forget_job(job_id)
        left: dict[str, Any] = {"name": None, "metadata_": {}, "parent": None, "result": None, "error": None}
        statement = update(Job).where(Job.id == job_id)
        self.session.execute(statement.values(deleted_at=clock(), version=Job.version + 1, **left))

    def stop_requested(self, job_id: str) -> str | None:
        """The outcome a worker is asked to stop for."""
        return self.session.scalars(select(Job.stop_requested).where(Job.id == job_id)).one()

    def lock(self, job_id: str) -> Job:
        """The job that a unit belongs to, locked until the transaction ends."""
        query = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
        return self.session.scalars(query).one()

    def page(self, project_id: str, wanted: ListFilter, *, before: str | None, limit: int) -> list[Job]:
        """In the order that is wanted, starting behind an id."""
        visible = select(Job).where(Job.project_id == project_id, Job.deleted_at.is_(None))
        return list(self.session.scalars(wanted.page(visible, Job, before, limit)))

    def needs_target_rows(self, dataset_id: str, but: str) -> bool:
        """Whether another job than one, that is not deleted, has its target rows in a data set."""
        query = select(Job.id).where(Job.target_dataset_id == dataset_id, Job.id != but, Job.deleted_at.is_(None))
        return self.session.scalars(query.limit(1)).first() is not None

    def queue_facts(self, job: Job) -> QueueFacts:
        """What decides when a queued job begins."""
        given = {"job_id": job.id, "project_id": job.project_id, "priority": job.priority}
        return QueueFacts(*self.session.execute(_QUEUE_FACTS, given).one())

    def move(self, job_id: str, old: tuple[JobStatus, ...], new: JobStatus, **values: Any) -> bool:
        """Change the state if it is still one of ``old``; the one place that writes ``status``.

        Returns:
            Whether the move was made. A terminal job is never moved.
        """
        stamps: dict[str, Any] = {}
        if new is JobStatus.RUNNING:
            stamps["started_at"] = clock()
        elif new is JobStatus.CANCELLING:
            stamps["cancelling_at"] = clock()
        else:
            stamps["finished_at"] = clock()
        statement = (
            update(Job)
            .where(Job.id == job_id, Job.status.in_(old))
            .values(status=new, version=Job.version + 1, **stamps, **values)
        )
        return affected(self.session.execute(statement)) == 1

    def edit(self, job_id: str, values: dict[str, Any]) -> None:
        """Change what a client may change of a job that is locked."""
        self.session.execute(update(Job).where(Job.id == job_id).values(version=Job.version + 1, **values))

    def waiting_on(self, gradient_set_id: str, statuses: tuple[JobStatus, ...] = ACTIVE) -> list[Job]:
        """Jobs that have not ended and need this gradient set."""
        needs = or_(Job.gradient_set_id == gradient_set_id, Job.target_gradient_set_id == gradient_set_id)
        return list(self.session.scalars(select(Job).where(needs, Job.status.in_(statuses)).order_by(Job.id)))

    def waiting_on_preparation(self, unit_id: str, statuses: tuple[JobStatus, ...] = ACTIVE) -> list[Job]:
        """Jobs that have not ended and need gradients that wait for this warm-up or prefilter."""
        query = select(Job).where(prepared_by(unit_id), Job.status.in_(statuses))
        return list(self.session.scalars(query.order_by(Job.id)))

    def active_among(self, job_ids: list[str]) -> set[str]:
        """Those of some jobs that have not ended."""
        return set(self.session.scalars(select(Job.id).where(Job.id.in_(job_ids), Job.status.in_(ACTIVE))))

    def past_deadline(self) -> list[str]:
        """Ids of jobs whose deadline has passed and that nobody has told yet."""
        query = select(Job.id).where(
            Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)),
            Job.deadline_at.is_not(None),
            Job.deadline_at < clock(),
            Job.stop_requested.is_(None),
        )
        return list(self.session.scalars(query))

    def request_stop(self, job_id: str, reason: str) -> None:
        """Ask the worker of the job to stop; the first reason stays."""
        statement = update(Job).where(Job.id == job_id, Job.stop_requested.is_(None)).values(stop_requested=reason)
        self.session.execute(statement)

    def add_ranking(self, job_id: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write the ranking."""
        insert_all(self.session, SelectedSample, ({"job_id": job_id, **row} for row in rows))

    def picks(
        self, job_id: str, *, after: int, limit: int, target: str | None = None, ranks: Sequence[int] | None = None
    ) -> list[SelectedSample]:
        """Picks behind a rank, in order: those for a target, and those of some ranks, where either is given."""
        row = SelectedSample
        query = select(row).where(row.job_id == job_id, row.rank > after)
        if target is not None:
            query = query.where(row.target == target)
        if ranks is not None:
            query = query.where(row.rank.in_(ranks))
        return list(self.session.scalars(query.order_by(row.rank).limit(limit)))

    def by_target(self, job_id: str) -> list[tuple[str | None, int, int, float | None]]:
        """Target, number of picks, their tokens and mean relevance, for every target with a pick."""
        row = SelectedSample
        columns = (row.target, func.count(), func.sum(row.tokens), func.avg(row.relevance))
        query = select(*columns).where(row.job_id == job_id).group_by(row.target)
        return [(name, count, int(tokens), relevance) for name, count, tokens, relevance in self.session.execute(query)]

    def stretches(self, job_id: str, length: int) -> list[tuple[int, float, float, float, float]]:
        """Last rank, mean and total gain, mean and largest conflict of every ``length`` picks, in order."""
        row = SelectedSample
        query = (
            select(
                func.max(row.rank),
                func.avg(row.gain),
                func.sum(row.gain),
                func.avg(row.conflict),
                func.max(row.conflict),
            )
            .where(row.job_id == job_id)
            .group_by((row.rank - 1) // length)
            .order_by(func.max(row.rank))
        )
        return [
            (last, mean, total, conflict, worst) for last, mean, total, conflict, worst in self.session.execute(query)
        ]

    def selected_rows(self, job_id: str) -> list[int]:
        """Rows of the source that the job chose, in order."""
        query = select(SelectedSample.source_row).where(SelectedSample.job_id == job_id)
        return list(self.session.scalars(query.order_by(SelectedSample.rank)))

    def row_digests(self, job_id: str) -> set[str]:
        """Digests of the rows that the job chose."""
        return set(self.session.scalars(select(SelectedSample.row_sha256).where(SelectedSample.job_id == job_id)))

    def add_files(self, job_id: str, project_id: str, files: Iterable[dict[str, Any]]) -> None:
        """Write down the files of the result."""
        rows = (
            {"job_id": job_id, "project_id": project_id, "position": position, **file}
            for position, file in enumerate(files)
        )
        insert_all(self.session, File, rows)

    def files(self, job_id: str) -> list[File]:
        """Files of the result, in the order they were written."""
        return list(self.session.scalars(select(File).where(File.job_id == job_id).order_by(File.position)))

    def file(self, project_id: str, job_id: str, name: str) -> File | None:
        """One file of the result."""
        query = select(File).where(File.job_id == job_id, File.project_id == project_id, File.name == name)
        return self.session.scalars(query).one_or_none()
