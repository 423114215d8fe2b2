"""What must hold whatever happened, read from the database and from what clients were told."""

from __future__ import annotations

import json
import statistics
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
from sqlalchemy import func, select

from app.persistence.session import Database
from app.persistence.tables import Event, Job, Unit, UnitCommit
from app.status import TERMINAL, JobStatus, UnitState
from tests.soak.chaos.clients import Clients


@dataclass
class Verdict:
    """What a run came to.

    Attributes:
        violations: Each broken promise in a sentence; empty when all held.
        lost: Accepted jobs that did not end.
        changed: Results whose bytes are not what they were or should be.
        claims: Times a unit was taken up.
        commits: Times one was finished.
        again: Finished units that were finished once more, because their artifact was lost.
        outcomes: How claims ended, as the workers' logs say; a worker that was killed says nothing.
        ended: Jobs by state.
        recovery: Seconds from each kind of fault to the next finished unit.
    """

    violations: list[str] = field(default_factory=list)
    accepted: int = 0
    lost: int = 0
    changed: int = 0
    claims: int = 0
    commits: int = 0
    again: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)

    @property
    def redone(self) -> float:
        """Share of the units that were taken up more often than finished."""
        return (self.claims - self.commits) / max(1, self.commits)


def settle(database: Database, seconds: float) -> None:
    """Wait until every job has ended, or nothing was finished for so long.

    Args:
        database: Of a service that is healed.
        seconds: Patience. It begins anew with every finished unit: a machine that ten others use as well is slow, and
            a job that waits its turn there is not lost.
    """
    finished, deadline = -1, 0.0
    while True:
        with database.read() as session:
            waiting = session.scalars(select(Job.id).where(Job.status.not_in(TERMINAL)).limit(1)).first()
            commits = session.scalars(select(func.count()).select_from(UnitCommit)).one()
        if commits != finished:
            finished, deadline = commits, time.monotonic() + seconds
        if waiting is None or time.monotonic() > deadline:
            return
        time.sleep(0.3)


def check(database: Database, clients: Clients, faults: list[tuple[str, datetime]]) -> Verdict:
    """Hold the end of a run against the promises.

    Args:
        database: Of a service that is healed and settled.
        clients: What they were told.
        faults: Name and moment of each.
    """
    verdict = Verdict(accepted=len(clients.history))
    with database.read() as session:
        jobs = {job.id: job for job in session.scalars(select(Job))}
        units = list(session.scalars(select(Unit)))
        commits = list(session.scalars(select(UnitCommit).order_by(UnitCommit.committed_at)))
        events = list(session.scalars(select(Event)))
    _check_jobs(verdict, clients, jobs, events)
    _check_units(verdict, units, commits, events)
    _check_results(verdict, clients, jobs)
    moments = [commit.committed_at for commit in commits]
    for name, moment in faults:
        after = bisect_right(moments, moment)
        if after < len(moments):
            verdict.recovery.setdefault(name, []).append((moments[after] - moment).total_seconds())
    return verdict


def _check_jobs(verdict: Verdict, clients: Clients, jobs: dict[str, Job], events: list[Event]) -> None:
    """I1: what was accepted ends, and well. I5: one key, one job."""
    ends = Counter(event.job_id for event in events if event.type in {f"job.{status}" for status in TERMINAL})
    known = set()
    for accepted in clients.history:
        known |= accepted.ids
        if len(accepted.ids) != 1:
            verdict.violations.append(f"key {accepted.key} made {len(accepted.ids)} jobs")
        for job_id in accepted.ids:
            job = jobs.get(job_id)
            if job is None or job.status not in TERMINAL:
                verdict.lost += 1
                verdict.violations.append(f"{job_id} was accepted and is {job.status if job else 'nowhere'}")
                continue
            verdict.ended[job.status] += 1
            if job.status != JobStatus.SUCCEEDED and not (job.status == JobStatus.CANCELLED and accepted.cancelled):
                verdict.violations.append(f"{job_id} ended {job.status} without cause: {job.error}")
            if ends[job_id] != 1:
                verdict.violations.append(f"{job_id} ended {ends[job_id]} times")
    for job_id in jobs.keys() - known:
        verdict.violations.append(f"{job_id} exists and nobody was told")


def _check_units(verdict: Verdict, units: list[Unit], commits: list[UnitCommit], events: list[Event]) -> None:
    """I2: one commit per unit and generation, by the holder of the lease. I4: finished shards are made once."""
    by_unit: dict[str, list[UnitCommit]] = defaultdict(list)
    for commit in commits:
        by_unit[commit.unit_id].append(commit)
    reopened = Counter(unit_id for event in events if event.type == "artifacts.lost" for unit_id in event.data["units"])
    verdict.claims = sum(unit.epoch for unit in units if unit.state == UnitState.DONE)
    verdict.commits = sum(len(by_unit[unit.id]) for unit in units if unit.state == UnitState.DONE)
    verdict.again = verdict.commits - sum(unit.state == UnitState.DONE for unit in units)
    for unit in units:
        made = by_unit[unit.id]
        if len({commit.generation for commit in made}) != len(made):
            verdict.violations.append(f"{unit.id} was committed twice in one generation")
        if len(made) > 1 + reopened[unit.id]:
            verdict.violations.append(f"{unit.id} was finished {len(made)} times, lost {reopened[unit.id]} times")
        if unit.state == UnitState.DONE and (not made or made[-1].epoch != unit.epoch):
            epoch = made[-1].epoch if made else None
            verdict.violations.append(f"{unit.id} was committed by epoch {epoch}, its lease was epoch {unit.epoch}")


def outcomes(logs: Path) -> Counter[str]:
    """How claims ended, from what the workers have logged."""
    ended: Counter[str] = Counter()
    for log in logs.glob("*.log"):
        for line in log.read_text("utf-8", "replace").splitlines():
            if '"unit_ended"' in line:
                with suppress(json.JSONDecodeError):  # cut in two by the full disk
                    ended[str(json.loads(line)["outcome"])] += 1
    return ended


def _check_results(verdict: Verdict, clients: Clients, jobs: dict[str, Job]) -> None:
    """I3: bytes are what the list says, and one question has one answer."""
    answers: dict[str, str] = {}
    for accepted in clients.history:
        for job_id in accepted.ids:
            job = jobs.get(job_id)
            if job is None or job.status != JobStatus.SUCCEEDED:
                continue
            try:
                digests = clients.result(job_id)
            except httpx.HTTPError as error:
                verdict.changed += 1
                verdict.violations.append(f"the result of {job_id} cannot be read: {error}")
                continue
            rotten = [name for name, digest in digests.items() if digest.startswith("not ")]
            chosen = answers.setdefault(accepted.question, digests["selected.jsonl"])
            if rotten or chosen != digests["selected.jsonl"]:
                verdict.changed += 1
                verdict.violations.append(f"the result of {job_id} is not what it should be: {rotten or 'selection'}")


def report(verdict: Verdict, faults: list[tuple[str, datetime]], seed: int, seconds: float) -> str:
    """The verdict for people."""
    lines = [
        f"seed {seed}, {seconds:.0f} s: {len(faults)} faults, {verdict.accepted} accepted jobs "
        f"({', '.join(f'{count} {state}' for state, count in sorted(verdict.ended.items()))})",
        f"lost {verdict.lost}, changed {verdict.changed}, units finished {verdict.commits}, "
        f"taken up again {verdict.claims - verdict.commits} ({verdict.redone:.1%}), "
        f"violations {len(verdict.violations)}",
        f"finished and made again because the artifact was lost: {verdict.again} "
        f"({verdict.again / max(1, verdict.commits):.1%})",
        "how claims ended, by the workers' logs: "
        + (", ".join(f"{count} {name}" for name, count in verdict.outcomes.most_common()) or "not read"),
        "seconds from the fault to the next finished unit (median, max, times):",
    ]
    for name, waits in sorted(verdict.recovery.items()):
        lines.append(f"  {name:32} {statistics.median(waits):6.1f} {max(waits):6.1f} {len(waits):4}")
    return "\n".join([*lines, *(f"VIOLATION: {violation}" for violation in verdict.violations)])
