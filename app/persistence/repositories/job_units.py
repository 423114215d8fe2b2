"""The units that jobs consist of, for many jobs in one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import now
from app.persistence.tables import GradientSet, Job, Unit
from app.persistence.tables.core import Id
from app.persistence.types import clock
from app.status import UnitKind

_PREPARED_BY = (GradientSet.warmup_unit_id, GradientSet.prefilter_unit_id)
"""Units that a gradient set waits for."""


def waits_for(unit_id: Any) -> ColumnElement[bool]:
    """The condition that a gradient set waits for this warm-up or prefilter.

    Args:
        unit_id: Id of its unit, or a column of it.
    """
    return or_(*(column == unit_id for column in _PREPARED_BY))


def prepares(sets: Any) -> ColumnElement[bool]:
    """The condition that a unit is what these gradient sets wait for.

    Args:
        sets: Their ids, or a parameter for them.
    """
    return or_(*(Unit.id.in_(select(column).where(GradientSet.id.in_(sets))) for column in _PREPARED_BY))


_SETS: BindParameter[Any] = bindparam("sets", expanding=True, type_=Id)
# Built once, because every answer about a job that has not ended asks it.
_OF_JOBS = (
    select(Unit, GradientSet.id, clock())
    .outerjoin(
        GradientSet,
        and_(waits_for(Unit.id), GradientSet.id.in_(_SETS)),
    )
    .where(
        or_(
            Unit.job_id.in_(bindparam("jobs", expanding=True, type_=Id)),
            # That shards have no job is what leads to them: a set may have been chosen from by very many jobs.
            and_(Unit.gradient_set_id.in_(_SETS), Unit.job_id.is_(None), Unit.kind == UnitKind.GRADIENTS),
            prepares(_SETS),
        )
    )
    .order_by(Unit.shard)
)


@dataclass(frozen=True)
class JobUnits:
    """The units of a job.

    Attributes:
        preparing: What its gradients wait for: a prefilter, a warm-up, both or nothing.
        shards: Gradients that it waits for: of its own gradient set, then of the target's; each in their order.
        parts: The first round of a pool that is cut into parts.
        selection: What ends it.
        moment: The database's clock.
    """

    preparing: Sequence[Unit]
    shards: Sequence[Unit]
    parts: Sequence[Unit]
    selection: Unit | None
    moment: datetime


def _of_job(
    job: Job,
    own: Sequence[Unit],
    by_set: Mapping[str, Sequence[Unit]],
    preparing: Mapping[str, Sequence[Unit]],
    moment: datetime,
) -> JobUnits:
    sets = dict.fromkeys(name for name in (job.gradient_set_id, job.target_gradient_set_id) if name)
    shards = [unit for unit in own if unit.kind == UnitKind.GRADIENTS]
    return JobUnits(
        preparing=preparing.get(job.gradient_set_id or "", ()),
        shards=shards + [unit for name in sets for unit in by_set.get(name, ())],
        parts=[unit for unit in own if unit.kind == UnitKind.SELECT_PART],
        selection=next((unit for unit in own if unit.kind == UnitKind.SELECT), None),
        moment=moment,
    )


def units_of_jobs(session: Session, jobs: Sequence[Job]) -> dict[str, JobUnits]:
    """What jobs consist of, by id, in one statement for all of them."""
    if not jobs:
        return {}
    sets = {name for job in jobs for name in (job.gradient_set_id, job.target_gradient_set_id) if name}
    given = {"jobs": [job.id for job in jobs], "sets": sorted(sets)}
    rows = list(session.execute(_OF_JOBS, given))
    moment = rows[-1][2] if rows else now(session)
    preparing: dict[str, list[Unit]] = defaultdict(list)
    for unit, set_id, _ in sorted(rows, key=lambda row: str(row[0].kind)):
        if set_id is not None:
            preparing[set_id].append(unit)
    by_job: dict[str, list[Unit]] = defaultdict(list)
    by_set: dict[str, list[Unit]] = defaultdict(list)
    for unit in {unit.id: unit for unit, _, _ in rows}.values():
        if unit.job_id is not None:
            by_job[unit.job_id].append(unit)
        elif unit.gradient_set_id is not None and unit.kind == UnitKind.GRADIENTS:
            by_set[unit.gradient_set_id].append(unit)
    return {job.id: _of_job(job, by_job[job.id], by_set, preparing, moment) for job in jobs}
