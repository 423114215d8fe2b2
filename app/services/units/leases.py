"""The lease of a unit of work: claimed, extended by heartbeats, given back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.persistence.repositories import (
    Datasets,
    Evaluations,
    Events,
    Jobs,
    UnitLogs,
    Units,
)
from app.persistence.repositories.unit_logs import LogLine, Writer
from app.persistence.session import Database
from app.persistence.tables import Unit
from app.persistence.types import clock
from app.services.units.dependents import waiting_jobs
from app.settings import Settings
from app.status import (
    PREPARING,
    EvaluationStatus,
    JobStatus,
    UnitKind,
    UnitState,
)

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


def write_log(session: Any, claim: Claim, lines: Sequence[LogLine]) -> None:
    """Append to the log of a unit that belongs to a job; the others have none.

    Args:
        session: The running transaction.
        claim: The lease under which it was done.
        lines: What was done.
    """
    if claim.kind != UnitKind.INGEST and claim.evaluation_id is None:
        UnitLogs(session).write(Writer(claim.unit_id, claim.project_id, claim.attempt, claim.owner), lines)


class Leases:
    """Leases of the units of one service.

    Args:
        database: Where the records are.
        settings: For the length of a lease.
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
            lost = unit.lost_leases
            claimed = LogLine("info", "claimed", f"attempt {unit.attempts} began")
            if lost:
                times = f"{lost} worker{'s were' if lost > 1 else ' was'} lost with it before"
                claimed = LogLine(
                    "warning", "claimed", f"attempt {unit.attempts} began: {times}", {"lost_leases": lost}
                )
            claim = Claim(
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
            write_log(session, claim, [claimed])
            return claim

    def traces(self, claim: Claim) -> list[str]:
        """The traces that a unit continues: of its job, or of the jobs that wait for it, oldest first."""
        with self.database.read() as session:
            if claim.job_id is not None:
                job = Jobs(session).get(claim.project_id, claim.job_id)
                jobs = [] if job is None else [job]
            else:
                jobs = waiting_jobs(session, claim)
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
            queued = waiting_jobs(session, unit, (JobStatus.QUEUED,))
            waiting = [job.id for job in queued]
        for job_id in waiting:
            if jobs.move(job_id, (JobStatus.QUEUED,), JobStatus.RUNNING):
                Events(session).append(unit.project_id, "job.running", job_id=job_id)

    def heartbeat(self, claim: Claim, report: Report, lines: Sequence[LogLine] = ()) -> Reply:
        """Renew the lease, note the progress and what was done, and learn whether to stop."""
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
            write_log(session, claim, lines)
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
        if unit.kind in {*PREPARING, UnitKind.GRADIENTS}:
            return None if waiting_jobs(session, unit) else JobStatus.CANCELLED
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

    def release(self, claim: Claim, lines: Sequence[LogLine] = ()) -> None:
        """Give a unit back untouched, as on shutdown: the attempt does not count."""
        with self.database.write() as session:
            values = {"attempts": Unit.attempts - 1, "phase": None, "completed": 0, "not_before": clock()}
            if Units(session).end_lease(claim.unit_id, claim.epoch, UnitState.PENDING, values):
                given_back = LogLine("info", "given_back", "the worker is going down: the unit was given back")
                write_log(session, claim, [*lines, given_back])
