"""The life of a unit of work: claimed under a lease, kept by heartbeats, given back, failed, swept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.errors import PROBLEMS, stored_problem
from app.persistence.repositories import (
    Datasets,
    Evaluations,
    Events,
    GradientSets,
    IdempotencyKeys,
    Jobs,
    OwnedUnits,
    Units,
    owners_that_ended,
)
from app.persistence.session import Database
from app.persistence.tables import Job, Unit
from app.persistence.types import clock
from app.services.jobs.service import stop_job
from app.settings import Settings
from app.status import (
    ACTIVE,
    EVALUATING,
    DatasetStatus,
    EvaluationStatus,
    GradientSetStatus,
    JobStatus,
    UnitKind,
    UnitState,
)

UPGRADE_PATIENCE = 12
"""How many times longer a unit waits that only a worker of a newer release can do: the upgrade may bring one."""

CLAIM_ROUNDS = 3
"""How often a worker looks again when others took everything that it saw."""


@dataclass(frozen=True)
class Claim:
    """A unit held under a lease. The epoch is the fence: whatever is done with an older one changes nothing."""

    unit_id: str
    kind: UnitKind
    epoch: int
    generation: int
    attempt: int
    owner: str
    project_id: str
    dataset_id: str
    gradient_set_id: str | None
    job_id: str | None
    evaluation_id: str | None
    shard: int | None
    created_at: datetime


@dataclass(frozen=True)
class Report:
    """What a worker says with a heartbeat.

    Attributes:
        phase: Open word for the step it is in.
        completed: Done so far.
        total: To be done; None leaves what was planned.
        measure: What is counted.
        rate: Per second at present.
        token_rate: Tokens per second at present, where tokens are counted.
        memory_bytes: What the worker holds: of its device, or of its process where it computes on a processor.
    """

    phase: str | None
    completed: int
    total: int | None
    measure: str | None
    rate: float | None
    token_rate: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Reply:
    """What a heartbeat brings back.

    Attributes:
        held: False when the lease belongs to somebody else, or the unit was ended: stop and discard.
        stop: Outcome to stop for (``cancelled`` or ``expired``), or None.
    """

    held: bool
    stop: str | None = None


class UnitService:
    """Units of one service.

    Args:
        database: Where the records are.
        settings: For leases, attempts and lost leases.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings

    def claim(self, unit_id: str, owner: str) -> Claim | None:
        """Take a unit, or None when another has it, it is over, or it is not its time."""
        with self.database.write() as session:
            unit = Units(session).claim(unit_id, owner, self.settings.lease_seconds, self.settings.max_lost_leases)
            if unit is None:
                return None
            self._mark_running(session, unit)
            return Claim(
                unit_id=unit.id,
                kind=UnitKind(unit.kind),
                epoch=unit.epoch,
                generation=unit.generation,
                attempt=unit.attempts,
                owner=owner,
                project_id=unit.project_id,
                dataset_id=unit.dataset_id,
                gradient_set_id=unit.gradient_set_id,
                job_id=unit.job_id,
                evaluation_id=unit.evaluation_id,
                shard=unit.shard,
                created_at=unit.created_at,
            )

    def traces(self, claim: Claim) -> list[str]:
        """The traces that a unit continues: of its job, or of the jobs that wait for it, oldest first."""
        with self.database.read() as session:
            if claim.job_id is not None:
                job = Jobs(session).get(claim.project_id, claim.job_id)
                jobs = [] if job is None else [job]
            else:
                jobs = _waiting(session, claim)
        return [job.traceparent for job in jobs if job.traceparent is not None]

    def claim_next(self, owner: str) -> Claim | None:
        """Take the unit that is next by the rule, whatever woke the worker; None when nothing can be had."""
        for _ in range(CLAIM_ROUNDS):
            with self.database.read() as session:
                candidates = Units(session).runnable_ids(
                    8, self.settings.max_lost_leases, across_projects=self.settings.priority_across_projects
                )
            for unit_id in candidates:
                claim = self.claim(unit_id, owner)
                if claim is not None:
                    return claim
            if not candidates:
                return None
        return None

    @staticmethod
    def _mark_running(session: Any, unit: Unit) -> None:
        if unit.kind == UnitKind.INGEST:
            return
        if unit.evaluation_id is not None:
            if Evaluations(session).move(unit.evaluation_id, (EvaluationStatus.QUEUED,), EvaluationStatus.RUNNING):
                Events(session).append(unit.project_id, "evaluation.running", evaluation_id=unit.evaluation_id)
            return
        jobs = Jobs(session)
        if unit.kind in {UnitKind.SELECT, UnitKind.SELECT_PART}:
            assert unit.job_id is not None
            waiting = [unit.job_id]
        else:
            queued = _waiting(session, unit, (JobStatus.QUEUED,))
            waiting = [job.id for job in queued]
        for job_id in waiting:
            if jobs.move(job_id, (JobStatus.QUEUED,), JobStatus.RUNNING):
                Events(session).append(unit.project_id, "job.running", job_id=job_id)

    def heartbeat(self, claim: Claim, report: Report) -> Reply:
        """Renew the lease, note the progress, and learn whether to stop."""
        values: dict[str, Any] = {
            "phase": report.phase,
            "completed": report.completed,
            "measure": report.measure,
            "rate": report.rate,
            "token_rate": report.token_rate,
            "memory_bytes": report.memory_bytes,
        }
        if report.total is not None:
            values["total"] = report.total
        with self.database.write() as session:
            unit = Units(session).heartbeat(claim.unit_id, claim.epoch, self.settings.lease_seconds, values)
            if unit is None:
                now = Units(session).get(claim.unit_id)
                ended = now is not None and now.state == UnitState.DEAD and now.error is None
                return Reply(held=False, stop=JobStatus.CANCELLED if ended else None)
            return Reply(held=True, stop=self._stop_for(session, unit))

    @staticmethod
    def _stop_for(session: Any, unit: Unit) -> str | None:
        if unit.kind == UnitKind.SELECT:
            assert unit.job_id is not None
            return Jobs(session).stop_requested(unit.job_id)
        if unit.kind in {UnitKind.WARMUP, UnitKind.GRADIENTS}:
            return None if _waiting(session, unit) else JobStatus.CANCELLED
        return None  # parts and the units of an evaluation end with what they belong to

    def keep(self, claim: Claim, checkpoint: dict[str, Any]) -> bool:
        """Write down what a unit can be continued from; False when the lease is somebody else's by now."""
        with self.database.write() as session:
            values = {"checkpoint": checkpoint}
            unit = Units(session).heartbeat(claim.unit_id, claim.epoch, self.settings.lease_seconds, values)
            return unit is not None

    def pin_source(self, claim: Claim, resolved: dict[str, Any]) -> bool:
        """Write down what the source of a data set stands for; False when the lease is somebody else's by now."""
        with self.database.write() as session:
            unit = Units(session).heartbeat(claim.unit_id, claim.epoch, self.settings.lease_seconds, {})
            if unit is None:
                return False
            Datasets(session).pin_source(claim.dataset_id, resolved)
            return True

    def release(self, claim: Claim) -> None:
        """Give a unit back untouched, as on shutdown: the attempt does not count."""
        with self.database.write() as session:
            values = {"attempts": Unit.attempts - 1, "phase": None, "completed": 0, "not_before": clock()}
            Units(session).end_lease(claim.unit_id, claim.epoch, UnitState.PENDING, values)

    def fail(self, claim: Claim, code: str, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        """Record a failed attempt: try again later, or end the unit and whatever waits for it.

        Args:
            claim: The lease; nothing happens when it is stale.
            code: Slug in the catalogue; its ``retryable`` decides whether another attempt makes sense.
            detail: One sentence for a person.
            errors: Several findings, where there are.
        """
        again = PROBLEMS.get(code, PROBLEMS["internal"]).retryable and claim.attempt < self.settings.max_attempts
        problem = stored_problem(code, detail, errors)
        with self.database.write() as session:
            if again:
                wait = self.settings.backoff_seconds * 2 ** (claim.attempt - 1)
                if code == "newer-settings":
                    wait *= UPGRADE_PATIENCE
                values: dict[str, Any] = {"not_before": clock(wait), "error": problem, "phase": None, "completed": 0}
                held = Units(session).end_lease(claim.unit_id, claim.epoch, UnitState.PENDING, values)
            else:
                _own(session, claim).lock_last()
                values = {"error": problem, "finished_at": clock()}
                held = Units(session).end_lease(claim.unit_id, claim.epoch, UnitState.DEAD, values)
            if not held:
                return
            data = {"kind": claim.kind, "shard": claim.shard, "attempt": claim.attempt, "code": code, "detail": detail}
            for concerned in _concerned(session, claim):
                Events(session).append(claim.project_id, "unit.failed", **concerned, data={**data, "again": again})
            if not again:
                _fail_dependents(session, claim, problem)

    def recompute(self, claim: Claim, unit_ids: list[str], detail: str) -> None:
        """Re-open units whose artifacts turned out missing or rotten, and let the one that needs them wait.

        Each is made again under a new generation; a second loss counts as another failed attempt of the unit that
        needs them, so a disk that keeps eating files ends the job with a reason.
        """
        if claim.attempt >= self.settings.max_attempts:
            self.fail(claim, "artifact-lost", detail)
            return
        with self.database.write() as session:
            units = Units(session)
            _own(session, claim).lock_last()
            values = {
                "phase": None,
                "completed": 0,
                "not_before": clock(),
                "error": stored_problem("artifact-lost", detail),
            }
            if not units.end_lease(claim.unit_id, claim.epoch, UnitState.PENDING, values):
                return
            lost = units.sets_of(unit_ids)
            for gradient_set_id in lost:
                GradientSets(session).lock(gradient_set_id)
            units.reopen(unit_ids)
            for gradient_set_id in lost:
                GradientSets(session).set_status(gradient_set_id, GradientSetStatus.COMPUTING)
            data = {"units": unit_ids, "detail": detail}
            for concerned in _concerned(session, claim):
                Events(session).append(claim.project_id, "artifacts.lost", **concerned, data=data)

    def notify(self, publish: Callable[[str], None], limit: int = 50, *, backlog: Callable[[], int] = lambda: 0) -> int:
        """Publish a message for every runnable unit that no worker was notified of lately.

        The runnable row is the outbox. Publishing comes before the commit: a crash in between sends two
        messages, never none.

        Args:
            publish: Sends the message; an exception leaves the rest for the next round.
            limit: Most units of one round.
            backlog: Messages that wait to be received. While there are any, none is sent a second time: workers
                that are merely busy would otherwise come back to hundreds of stale ones.

        Returns:
            How many messages were sent.
        """
        with self.database.write() as session:
            units = Units(session)
            ids = units.lock_unnotified(None, limit, self.settings.max_lost_leases)
            if not ids and backlog() == 0:
                ids = units.lock_unnotified(self.settings.notify_seconds, limit, self.settings.max_lost_leases)
            for unit_id in ids:
                publish(unit_id)
            if ids:
                units.mark_notified(ids)
            return len(ids)

    def sweep(self) -> None:
        """End what nobody else will.

        That is: units that keep killing workers, jobs past their deadline, stopped jobs whose worker died.
        """
        with self.database.read() as session:
            lost = Units(session).out_of_leases(self.settings.max_lost_leases)
            left_open = owners_that_ended(session)
        for found in lost:
            with self.database.write() as session:
                _own(session, found).lock_last()
                for unit in Units(session).out_of_leases(self.settings.max_lost_leases, found.id):
                    detail = f"{unit.lost_leases + 1} workers were lost while working on this unit"
                    problem = stored_problem("worker-killed", detail)
                    Units(session).kill(unit.id, problem)
                    _fail_dependents(session, unit, problem)
        for job_id, evaluation_id in left_open:
            with self.database.write() as session:
                OwnedUnits(session, job_id=job_id, evaluation_id=evaluation_id).close()
        with self.database.write() as session:
            units, jobs = Units(session), Jobs(session)
            for unit in units.lock_abandoned_selections():
                assert unit.job_id is not None
                job = jobs.lock(unit.job_id)
                outcome = JobStatus(job.stop_requested or JobStatus.CANCELLED)
                units.kill(unit.id, None)
                if jobs.move(job.id, (JobStatus.CANCELLING,), outcome):
                    Events(session).append(job.project_id, f"job.{outcome}", job_id=job.id)
            IdempotencyKeys(session).forget_older_than(self.settings.idempotency_hours * 3600)
            late = jobs.past_deadline()
        for job_id in late:
            with self.database.write() as session:
                stop_job(session, job_id, JobStatus.EXPIRED)


def _waiting(session: Any, unit: Claim | Unit, statuses: tuple[JobStatus, ...] = ACTIVE) -> list[Job]:
    """Jobs that wait for a unit that is not one job's own, oldest first."""
    jobs = Jobs(session)
    if unit.kind == UnitKind.WARMUP:
        return jobs.waiting_on_warmup(_id_of(unit), statuses)
    return [] if unit.gradient_set_id is None else jobs.waiting_on(unit.gradient_set_id, statuses)


def _own(session: Any, unit: Claim | Unit) -> OwnedUnits:
    """The units of the job or the evaluation that a unit belongs to."""
    return OwnedUnits(session, job_id=unit.job_id, evaluation_id=unit.evaluation_id)


def _id_of(unit: Claim | Unit) -> str:
    return unit.unit_id if isinstance(unit, Claim) else unit.id


def _jobs_of(session: Any, unit: Claim | Unit) -> list[str]:
    """Jobs that a unit's fate concerns."""
    if unit.job_id is not None:
        return [unit.job_id]
    return [job.id for job in _waiting(session, unit)]


def _concerned(session: Any, unit: Claim | Unit) -> list[dict[str, str]]:
    """What an event about a unit belongs to."""
    if unit.evaluation_id is not None:
        return [{"evaluation_id": unit.evaluation_id}]
    return [{"job_id": job_id} for job_id in _jobs_of(session, unit)]


def _fail_dependents(session: Any, dead: Claim | Unit, problem: dict[str, Any]) -> None:
    """Let the failure of a unit reach whatever waits for it."""
    events, data = Events(session), {"code": problem["code"]}
    if dead.kind == UnitKind.INGEST:
        if Datasets(session).settle(dead.dataset_id, DatasetStatus.INVALID, {"error": problem}):
            events.append(dead.project_id, "dataset.invalid", dataset_id=dead.dataset_id, data=data)
        return
    if dead.evaluation_id is not None:
        _own(session, dead).close()
        if Evaluations(session).move(dead.evaluation_id, EVALUATING, EvaluationStatus.FAILED, error=problem):
            events.append(dead.project_id, "evaluation.failed", evaluation_id=dead.evaluation_id, data=data)
        return
    sets = GradientSets(session)
    failed = [found.id for found in sets.of_warmup(_id_of(dead))] if dead.kind == UnitKind.WARMUP else []
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
