"""Which units may be claimed at this moment and in what order, and ending all units of a job or an evaluation."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, ScalarSelect, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.persistence.repositories.evaluations import evaluation_wants
from app.persistence.repositories.jobs import prepared_by
from app.persistence.tables import Dataset, Evaluation, GradientSet, Job, Project, Unit
from app.persistence.types import clock
from app.status import EVALUATING, PREPARING, TERMINAL, DatasetStatus, JobStatus, UnitKind, UnitState

SCHEMA_VERSION = 5
"""Raised when units change in a way that older workers must not touch; they leave newer units alone.

Each unit carries the least version a worker must have: 1, 2 for parts and what waits for them, 3 for evaluations, 4 for
warm-ups and what waits for them, and for the schedule ``periodic``, 5 for prefilters and what waits for them.
"""

WANTED = (JobStatus.QUEUED, JobStatus.RUNNING)


@cache
def runnable(max_lost_leases: int) -> ColumnElement[bool]:
    """The condition under which a unit may be claimed at this moment.

    A lease that ran out is claimable as it stands, so no sweeper is needed for progress. Gradients are wanted while
    any job waits for their set, once its warm-up and its prefilter are done; parts of a pool are wanted once every
    shard of their set is done, and a selection once its parts and the shards of its target set are done as well; units
    of an evaluation in their order. Made once: putting it together takes longer than asking the database, and idle
    workers ask often.
    """
    shard, part, target, own_job = aliased(Unit), aliased(Unit), aliased(Unit), aliased(Job)
    before, own = aliased(Unit), aliased(GradientSet)
    free = or_(
        Unit.state == UnitState.PENDING,
        and_(Unit.state == UnitState.LEASED, Unit.lease_until < clock(), Unit.lost_leases + 1 < max_lost_leases),
    )
    job_is_wanted = exists().where(Job.id == Unit.job_id, Job.status.in_(WANTED))
    gradients_are_ready = ~exists().where(
        shard.gradient_set_id == Unit.gradient_set_id,
        shard.kind == UnitKind.GRADIENTS,
        shard.state != UnitState.DONE,
    )
    targets_are_ready = ~exists().where(
        own_job.id == Unit.job_id,
        target.gradient_set_id == own_job.target_gradient_set_id,
        target.kind == UnitKind.GRADIENTS,
        target.state != UnitState.DONE,
    )
    parts_are_chosen = ~exists().where(
        part.job_id == Unit.job_id, part.kind == UnitKind.SELECT_PART, part.state != UnitState.DONE
    )
    is_prepared = ~exists().where(
        own.id == Unit.gradient_set_id,
        before.id.in_((own.warmup_unit_id, own.prefilter_unit_id)),
        before.state != UnitState.DONE,
    )
    wanted = or_(
        and_(
            Unit.kind == UnitKind.INGEST,
            exists().where(Dataset.id == Unit.dataset_id, Dataset.status == DatasetStatus.VALIDATING),
        ),
        and_(Unit.kind.in_(PREPARING), exists().where(prepared_by(Unit.id), Job.status.in_(WANTED))),
        and_(
            Unit.kind == UnitKind.GRADIENTS,
            is_prepared,
            or_(
                exists().where(Job.gradient_set_id == Unit.gradient_set_id, Job.status.in_(WANTED)),
                exists().where(Job.target_gradient_set_id == Unit.gradient_set_id, Job.status.in_(WANTED)),
            ),
        ),
        and_(Unit.kind == UnitKind.SELECT_PART, job_is_wanted, gradients_are_ready),
        and_(
            Unit.kind == UnitKind.SELECT,
            job_is_wanted,
            is_prepared,
            gradients_are_ready,
            targets_are_ready,
            parts_are_chosen,
        ),
        evaluation_wants(),
    )
    limit = select(Project.max_running_units).where(Project.id == Unit.project_id).scalar_subquery()
    allowed = or_(limit.is_(None), running_units() < limit)
    # Asked for when the statement runs: the condition is built once for all.
    known = bindparam("schema_version_known", callable_=lambda: SCHEMA_VERSION, type_=Integer)
    return and_(free, Unit.not_before <= clock(), Unit.schema_version <= known, wanted, allowed)


def running_units() -> ScalarSelect[int]:
    """How many units of this unit's project are being worked on at this moment."""
    other = aliased(Unit)
    return (
        select(func.count())
        .select_from(other)
        .where(
            other.project_id == Unit.project_id,
            other.state == UnitState.LEASED,
            other.lease_until >= clock(),
            other.id != Unit.id,
        )
        .correlate(Unit)
        .scalar_subquery()
    )


@cache
def priority_order(*, across_projects: bool = False) -> tuple[ColumnElement[Any], ...]:
    """Which unit is next: the project with least running, then the one that waited longest, then priority, then age.

    So nobody's flood of jobs delays another project by more than its share, whatever their priorities say.

    Args:
        across_projects: Priority goes before fairness between projects.
    """
    priority = (
        select(func.max(Job.priority))
        .where(
            or_(
                Job.id == Unit.job_id,
                and_(Unit.job_id.is_(None), Job.gradient_set_id == Unit.gradient_set_id),
                and_(Unit.job_id.is_(None), Job.target_gradient_set_id == Unit.gradient_set_id),
                and_(Unit.kind.in_(PREPARING), prepared_by(Unit.id)),
            ),
            Job.status.in_(WANTED),
        )
        .correlate(Unit)
        .scalar_subquery()
    )
    served = select(Project.served_at).where(Project.id == Unit.project_id).correlate(Unit).scalar_subquery()
    # Never served sorts first on either database: NULLs come last in PostgreSQL and first in SQLite.
    fair = (running_units().asc(), served.is_not(None).asc(), served.asc())
    urgent = (func.coalesce(priority, 0).desc(),)
    age = (Unit.created_at.asc(), Unit.id.asc())
    return (*urgent, *fair, *age) if across_projects else (*fair, *urgent, *age)


OPEN = (UnitState.PENDING, UnitState.LEASED)


class OwnedUnits:
    """The units of one job or of one evaluation.

    Whoever is going to change several of them, or one of them and then what they belong to, locks the last of them
    first, the selection or the report: two who lock them in different orders would deadlock.

    Args:
        session: The running transaction.
        job_id: The job they belong to, or None.
        evaluation_id: The evaluation they belong to, or None.
    """

    def __init__(self, session: Session, *, job_id: str | None = None, evaluation_id: str | None = None) -> None:
        self.session = session
        # With neither, as for units that are nobody's own, there are none.
        self._mine: ColumnElement[bool] = or_(
            and_(Unit.job_id.is_not(None), Unit.job_id == job_id),
            and_(Unit.evaluation_id.is_not(None), Unit.evaluation_id == evaluation_id),
        )

    def lock_last(self) -> None:
        """Lock the unit that comes last until the transaction ends."""
        self._lock(UnitKind.SELECT, UnitKind.EVALUATION_REPORT)

    def close(self) -> None:
        """End all that wait or are held; whoever holds one is fenced off and told with the next heartbeat."""
        self.lock_last()
        # A plan that is being committed brings trainings: the next statement must see them.
        self._lock(UnitKind.EVALUATION_PLAN)
        statement = (
            update(Unit)
            .where(self._mine, Unit.state.in_(OPEN))
            .values(
                state=UnitState.DEAD,
                epoch=Unit.epoch + 1,
                error=None,
                owner=None,
                lease_until=None,
                notified_at=None,
                finished_at=clock(),
            )
        )
        self.session.execute(statement)

    def _lock(self, *kinds: UnitKind) -> None:
        self.session.execute(select(Unit.id).where(self._mine, Unit.kind.in_(kinds)).with_for_update())


def owners_that_ended(session: Session) -> list[tuple[str | None, str | None]]:
    """Jobs and evaluations that have ended and left a unit open, as (job id, evaluation id).

    There are none but those that an older version of the service ended.
    """
    over = or_(
        exists().where(Job.id == Unit.job_id, Job.status.in_(TERMINAL)),
        exists().where(Evaluation.id == Unit.evaluation_id, Evaluation.status.not_in(EVALUATING)),
    )
    query = select(Unit.job_id, Unit.evaluation_id).where(Unit.state.in_(OPEN), over).distinct()
    return [(job_id, evaluation_id) for job_id, evaluation_id in session.execute(query)]
