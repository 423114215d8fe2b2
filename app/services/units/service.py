"""What becomes of units of work: workers notified, attempts failed, artifacts made again, what nobody ends swept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.errors import PROBLEMS, stored_problem
from app.logs import get_logger
from app.persistence.repositories import (
    Events,
    GradientSets,
    IdempotencyKeys,
    Jobs,
    OwnedUnits,
    UnitLogs,
    Units,
    owners_that_ended,
)
from app.persistence.repositories.clock_steps import SLACK_SECONDS, seconds_ahead, undo_step
from app.persistence.repositories.unit_logs import LogLine, Writer
from app.persistence.types import clock
from app.services.jobs.service import stop_job
from app.services.notify.deliveries import LEASE_FACTOR
from app.services.units.dependents import concerned_by, fail_dependents, owned_units
from app.services.units.leases import Claim, Leases, write_log
from app.status import (
    GradientSetStatus,
    JobStatus,
    UnitKind,
    UnitState,
)

UPGRADE_PATIENCE = 12
"""How many times longer a unit waits that only a worker of a newer release can do: the upgrade may bring one."""


class UnitService(Leases):
    """Units of one service.

    Args:
        database: Where the records are.
        settings: For leases, attempts and lost leases.
    """

    def fail(
        self,
        claim: Claim,
        code: str,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        reasons: Mapping[str, int] | None = None,
        lines: Sequence[LogLine] = (),
    ) -> None:
        """Record a failed attempt: try again later, or end the unit and whatever waits for it.

        Args:
            claim: The lease; nothing happens when it is stale.
            code: Slug in the catalogue; its ``retryable`` decides whether another attempt makes sense.
            detail: One sentence for a person.
            errors: Several findings, where there are.
            reasons: How many rows there were of each reason, where it is about many.
            lines: What the log does not say yet.
        """
        again = PROBLEMS.get(code, PROBLEMS["internal"]).retryable and claim.attempt < self.settings.max_attempts
        problem = stored_problem(code, detail, errors, reasons)
        wait = 0.0
        with self.database.write() as session:
            if again:
                wait = self.settings.backoff_seconds * 2 ** (claim.attempt - 1)
                if code == "newer-settings":
                    wait *= UPGRADE_PATIENCE
                values: dict[str, Any] = {"not_before": clock(wait), "error": problem, "phase": None, "completed": 0}
                held = Units(session).end_lease(claim.unit_id, claim.epoch, UnitState.PENDING, values)
            else:
                owned_units(session, claim).lock_last()
                values = {"error": problem, "finished_at": clock()}
                held = Units(session).end_lease(claim.unit_id, claim.epoch, UnitState.DEAD, values)
            if not held:
                return
            next_try = f"; tried again in {wait:g} s" if again else "; not tried again"
            failed = LogLine("warning" if again else "error", code, f"{detail}{next_try}", {"again": again})
            write_log(session, claim, [*lines, failed])
            data = {"kind": claim.kind, "shard": claim.shard, "attempt": claim.attempt, "code": code, "detail": detail}
            for concerned in concerned_by(session, claim):
                Events(session).append(claim.project_id, "unit.failed", **concerned, data={**data, "again": again})
            if not again:
                fail_dependents(session, claim, problem)

    def recompute(self, claim: Claim, unit_ids: list[str], detail: str, lines: Sequence[LogLine] = ()) -> None:
        """Re-open units whose artifacts turned out missing or rotten, and let the one that needs them wait.

        Each is made again under a new generation; a second loss counts as another failed attempt of the unit that
        needs them, so a disk that keeps eating files ends the job with a reason.
        """
        if claim.attempt >= self.settings.max_attempts:
            self.fail(claim, "artifact-lost", detail, lines=lines)
            return
        with self.database.write() as session:
            units = Units(session)
            owned_units(session, claim).lock_last()
            values = {
                "phase": None,
                "completed": 0,
                "not_before": clock(),
                "error": stored_problem("artifact-lost", detail),
            }
            if not units.end_lease(claim.unit_id, claim.epoch, UnitState.PENDING, values):
                return
            again = LogLine("warning", "artifact-lost", f"{detail}; made again", {"units": unit_ids[:100]})
            write_log(session, claim, [*lines, again])
            lost = units.sets_of(unit_ids)
            for gradient_set_id in lost:
                GradientSets(session).lock(gradient_set_id)
            units.reopen(unit_ids)
            for gradient_set_id in lost:
                GradientSets(session).set_status(gradient_set_id, GradientSetStatus.COMPUTING)
            data = {"units": unit_ids, "detail": detail}
            for concerned in concerned_by(session, claim):
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

    def _undo_clock_step(self) -> None:
        with self.database.read() as session:
            if seconds_ahead(session) <= SLACK_SECONDS:
                return
        settings = self.settings
        pause = settings.backoff_seconds * 2 ** (settings.max_attempts - 1) * UPGRADE_PATIENCE
        with self.database.write() as session:
            cut = undo_step(session, settings.lease_seconds, pause, settings.webhook_timeout_seconds * LEASE_FACTOR)
        if cut:
            get_logger().error("database_clock_went_back", records=cut)

    def sweep(self) -> None:
        """End what nobody else will.

        That is: units that keep killing workers, jobs past their deadline, stopped jobs whose worker died, and what
        would stand still because the database's clock was set back.
        """
        self._undo_clock_step()
        with self.database.read() as session:
            lost = Units(session).out_of_leases(self.settings.max_lost_leases)
            left_open = owners_that_ended(session)
        for found in lost:
            with self.database.write() as session:
                owned_units(session, found).lock_last()
                for unit in Units(session).out_of_leases(self.settings.max_lost_leases, found.id):
                    detail = f"{unit.lost_leases + 1} workers were lost while working on this unit"
                    problem = stored_problem("worker-killed", detail)
                    Units(session).kill(unit.id, problem)
                    if unit.kind != UnitKind.INGEST and unit.evaluation_id is None:
                        killed = Writer(unit.id, unit.project_id, unit.attempts, unit.owner)
                        UnitLogs(session).write(
                            killed, [LogLine("error", "worker-killed", f"{detail}; not tried again")]
                        )
                    fail_dependents(session, unit, problem)
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
