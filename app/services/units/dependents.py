"""What waits for a unit, and what its failure means for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.persistence.repositories import (
    Datasets,
    Evaluations,
    Events,
    GradientSets,
    Jobs,
    OwnedUnits,
    Units,
)
from app.persistence.tables import Job, Unit
from app.status import (
    ACTIVE,
    EVALUATING,
    PREPARING,
    DatasetStatus,
    EvaluationStatus,
    GradientSetStatus,
    JobStatus,
    UnitKind,
)

if TYPE_CHECKING:
    from app.services.units.leases import Claim


def waiting_jobs(session: Any, unit: Claim | Unit, statuses: tuple[JobStatus, ...] = ACTIVE) -> list[Job]:
    """Jobs that wait for a unit that is not one job's own, oldest first."""
    jobs = Jobs(session)
    if unit.kind in PREPARING:
        return jobs.waiting_on_preparation(_id_of(unit), statuses)
    return [] if unit.gradient_set_id is None else jobs.waiting_on(unit.gradient_set_id, statuses)


def owned_units(session: Any, unit: Claim | Unit) -> OwnedUnits:
    """The units of the job or the evaluation that a unit belongs to."""
    return OwnedUnits(session, job_id=unit.job_id, evaluation_id=unit.evaluation_id)


def _id_of(unit: Claim | Unit) -> str:
    return unit.unit_id if not isinstance(unit, Unit) else unit.id


def _jobs_of(session: Any, unit: Claim | Unit) -> list[str]:
    """Jobs that a unit's fate concerns."""
    if unit.job_id is not None:
        return [unit.job_id]
    return [job.id for job in waiting_jobs(session, unit)]


def concerned_by(session: Any, unit: Claim | Unit) -> list[dict[str, str]]:
    """What an event about a unit belongs to."""
    if unit.evaluation_id is not None:
        return [{"evaluation_id": unit.evaluation_id}]
    return [{"job_id": job_id} for job_id in _jobs_of(session, unit)]


def fail_dependents(session: Any, dead: Claim | Unit, problem: dict[str, Any]) -> None:
    """Let the failure of a unit reach whatever waits for it."""
    events, data = Events(session), {"code": problem["code"]}
    if dead.kind == UnitKind.INGEST:
        if Datasets(session).settle(dead.dataset_id, DatasetStatus.INVALID, {"error": problem}):
            events.append(dead.project_id, "dataset.invalid", dataset_id=dead.dataset_id, data=data)
        return
    if dead.evaluation_id is not None:
        owned_units(session, dead).close()
        if Evaluations(session).move(dead.evaluation_id, EVALUATING, EvaluationStatus.FAILED, error=problem):
            events.append(dead.project_id, "evaluation.failed", evaluation_id=dead.evaluation_id, data=data)
        return
    sets = GradientSets(session)
    failed = [found.id for found in sets.prepared_by(_id_of(dead))] if dead.kind in PREPARING else []
    if dead.kind == UnitKind.GRADIENTS:
        assert dead.gradient_set_id is not None
        failed = [dead.gradient_set_id]
    for failed_set in failed:
        if sets.lock(failed_set).status != GradientSetStatus.READY:
            sets.set_status(failed_set, GradientSetStatus.FAILED, error=problem)
    for failed_id in _jobs_of(session, dead):
        unit = Units(session).of_job(failed_id)
        if unit is not None:
            Units(session).kill(unit.id, problem)
        OwnedUnits(session, job_id=failed_id).close()
        if Jobs(session).move(failed_id, ACTIVE, JobStatus.FAILED, error=problem):
            events.append(dead.project_id, "job.failed", job_id=failed_id, data=data)
