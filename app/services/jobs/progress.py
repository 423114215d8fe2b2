"""How far a job is and where it stands in the queue, derived from its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.persistence.repositories import Jobs, JobUnits
from app.persistence.tables import Job, Unit
from app.status import UnitState

WAITING = "waiting_for_worker"
GRADIENTS = "computing_gradients"
PARTS = "selecting_parts"


@dataclass(frozen=True)
class Progress:
    """A count on its way.

    Attributes:
        phase: Open word for the step.
        completed: Done so far.
        total: To be done.
        unit: What is counted, such as ``samples``.
        rate_per_second: At present, over all workers; None until known.
        eta_seconds: Time to go in this phase at that rate; None until known.
        updated_at: When a worker last said so.
        tokens_per_second: At present, over all workers; None where tokens are not counted.
        memory_bytes: Most that a worker at it holds at present.
    """

    phase: str
    completed: int
    total: int
    unit: str
    rate_per_second: float | None
    eta_seconds: float | None
    updated_at: datetime | None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None

    @property
    def fraction(self) -> float:
        """Share done, between 0 and 1."""
        return self.completed / self.total if self.total else 0.0


def is_worked_on(unit: Unit | None, now: datetime) -> bool:
    """Whether a worker holds the unit under a lease that has not run out."""
    return (
        unit is not None and unit.state == UnitState.LEASED and unit.lease_until is not None and unit.lease_until > now
    )


def unit_progress(unit: Unit | None, now: datetime) -> Progress | None:
    """Progress of a single unit; None unless somebody works on it and has reported."""
    if unit is None or not is_worked_on(unit, now) or unit.phase is None:
        return None
    rate = unit.rate or None
    return Progress(
        phase=unit.phase,
        completed=unit.completed,
        total=unit.total,
        unit=unit.measure or "steps",
        rate_per_second=rate,
        eta_seconds=(unit.total - unit.completed) / rate if rate and unit.total else None,
        updated_at=unit.heartbeat_at,
        tokens_per_second=unit.token_rate,
        memory_bytes=unit.memory_bytes,
    )


@dataclass(frozen=True)
class ShardView:
    """One gradient shard: how far it is, or what it took; None where that is not known.

    Attributes:
        shard: Its number.
        state: Of its unit.
        completed: Samples measured.
        total: Samples to measure.
        samples_per_second: At present, or over all of it once it is done.
        tokens_per_second: Likewise.
        eta_seconds: Time to go at that rate.
        memory_bytes: Held at present, or at its peak once it is done.
        tokens: Tokens measured, once it is done.
        seconds: What measuring took, once it is done.
        halvings: How often a batch was halved for lack of memory.
        device: Where it was measured.
    """

    shard: int
    state: str
    completed: int
    total: int
    samples_per_second: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    memory_bytes: int | None
    tokens: int | None
    seconds: float | None
    halvings: int | None
    device: str | None


def shard_view(unit: Unit, result: Mapping[str, Any] | None, now: datetime) -> ShardView:
    """A shard as it stands.

    Args:
        unit: Its unit.
        result: What its worker reported; None before it is done.
        now: This moment.
    """
    if result is not None:
        seconds = result.get("seconds") or None
        samples, tokens = result.get("samples"), result.get("tokens")
        return ShardView(
            shard=unit.shard or 0,
            state=unit.state,
            completed=unit.total,
            total=unit.total,
            samples_per_second=samples / seconds if seconds and samples is not None else None,
            tokens_per_second=tokens / seconds if seconds and tokens is not None else None,
            eta_seconds=None,
            memory_bytes=result.get("peak_bytes"),
            tokens=tokens,
            seconds=seconds,
            halvings=result.get("halvings"),
            device=result.get("device"),
        )
    live = unit_progress(unit, now)
    return ShardView(
        shard=unit.shard or 0,
        state=unit.state,
        completed=_live(unit, now),
        total=unit.total,
        samples_per_second=None if live is None else live.rate_per_second,
        tokens_per_second=None if live is None else live.tokens_per_second,
        eta_seconds=None if live is None else live.eta_seconds,
        memory_bytes=None if live is None else live.memory_bytes,
        tokens=None,
        seconds=None,
        halvings=None,
        device=None,
    )


def job_phase(work: JobUnits) -> str:
    """The step a job that has not ended is in."""
    now = work.moment
    if not _all_done(work.preparing):
        return _own_phase(_at_it(work.preparing, now), now)
    shards = work.shards
    if any(shard.state != UnitState.DONE for shard in shards):
        phases = [shard.phase for shard in shards if is_worked_on(shard, now)]
        if not phases:
            return WAITING
        return (
            GRADIENTS if GRADIENTS in phases or any(s.state == UnitState.DONE for s in shards) else phases[0] or WAITING
        )
    if any(part.state != UnitState.DONE for part in work.parts):
        return PARTS if any(is_worked_on(part, now) for part in work.parts) else WAITING
    return _own_phase(work.selection, now)


def _own_phase(unit: Unit | None, now: datetime) -> str:
    return (unit.phase if unit is not None and is_worked_on(unit, now) else None) or WAITING


def job_progress(work: JobUnits) -> Progress | None:
    """Progress of a job that has not ended.

    Steps while the proxy model is warmed up, rows while the pool is prefiltered, samples while gradients are computed,
    parts while a pool is cut into them, then the selection's own count.
    """
    shards, now = work.shards, work.moment
    if not _all_done(work.preparing):
        return unit_progress(_at_it(work.preparing, now), now)
    if _all_done(shards):
        parts = work.parts
        return unit_progress(work.selection, now) if _all_done(parts) else shared_progress(parts, now, PARTS, "parts")
    completed = sum(shard.total if shard.state == UnitState.DONE else _live(shard, now) for shard in shards)
    total = sum(shard.total for shard in shards)
    at_it = [shard for shard in shards if is_worked_on(shard, now)]
    rate = sum(shard.rate or 0.0 for shard in at_it)
    heard = [shard.heartbeat_at for shard in shards if shard.heartbeat_at is not None]
    return Progress(
        phase=job_phase(work),
        completed=completed,
        total=total,
        unit="samples",
        rate_per_second=rate or None,
        eta_seconds=(total - completed) / rate if rate else None,
        updated_at=max(heard, default=None),
        tokens_per_second=sum(shard.token_rate or 0.0 for shard in at_it) or None,
        memory_bytes=max((shard.memory_bytes for shard in at_it if shard.memory_bytes), default=None),
    )


def _at_it(units: Sequence[Unit], now: datetime) -> Unit | None:
    """The first unit that somebody works on."""
    return next((unit for unit in units if is_worked_on(unit, now)), None)


def _all_done(units: Sequence[Unit]) -> bool:
    return all(unit.state == UnitState.DONE for unit in units)


def shared_progress(parts: Sequence[Unit], now: datetime, phase: str, unit: str) -> Progress:
    """Units done; the rate also counts what is done of the others, so that it is known before the first ends.

    Args:
        parts: Units that several workers share.
        now: The moment.
        phase: What it is called while any of them is worked on.
        unit: What one of them is called.
    """
    done = sum(part.state == UnitState.DONE for part in parts)
    begun = done + sum(part.completed / part.total for part in parts if is_worked_on(part, now) and part.total)
    starts = [part.started_at for part in parts if part.started_at is not None]
    seconds = (now - min(starts)).total_seconds() if starts else 0.0
    rate = begun / seconds if begun and seconds > 0 else None
    return Progress(
        phase=phase if any(is_worked_on(part, now) for part in parts) else WAITING,
        completed=done,
        total=len(parts),
        unit=unit,
        rate_per_second=rate,
        eta_seconds=(len(parts) - begun) / rate if rate else None,
        updated_at=max((part.heartbeat_at for part in parts if part.heartbeat_at is not None), default=None),
    )


def _live(shard: Unit, now: datetime) -> int:
    return shard.completed if is_worked_on(shard, now) else 0


@dataclass(frozen=True)
class QueuePosition:
    """A place in the queue: projects are served in turn, the jobs of each by priority and age.

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
