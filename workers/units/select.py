"""A ``select`` unit: the selection of a job, by either schedule, and the files of its result."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.persistence.repositories import Events, Jobs, Units, units_of_jobs
from app.persistence.tables import Job, Unit
from app.services.units.commits import Outcome
from app.services.units.inputs import SelectInputs, selection_inputs
from app.services.units.leases import Claim
from app.status import JobStatus, UnitKind
from spice_select.errors import Stopped
from workers.heartbeat import Heartbeat
from workers.units.handler import UnitHandler

IN_EVENT = ("selected", "stop_reason", "excluded", "excluded_by_code")
"""What the event of a job that has ended says of its result."""


@dataclass(frozen=True)
class SelectionOutcome(Outcome):
    """A finished (or, when ``partial``, stopped) selection with its files in the store.

    Attributes:
        job_result: The job's ``result``.
        ranking: Rows of the ranking.
        files: Files of the result.
        partial: Whether it was stopped.
    """

    job_result: dict[str, Any]
    ranking: Iterable[dict[str, Any]]
    files: list[dict[str, Any]]
    partial: bool


class SelectHandler(UnitHandler[SelectInputs, SelectionOutcome]):
    """Selects for a job and writes the files of the result."""

    kind = UnitKind.SELECT

    def load(self, session: Any, claim: Claim) -> SelectInputs:
        """Read what the job asks for, and where its gradients are."""
        return selection_inputs(session, claim)

    def run(self, claim: Claim, inputs: SelectInputs, heartbeat: Heartbeat, folder: Path) -> SelectionOutcome:
        """Select, and write the files of the result into the store.

        Raises:
            ArtifactsLostError: Gradient shards, selections of parts or a warm-up have to be made again.
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The lease was lost or the process is going down. A job that is cancelled or past its deadline keeps
                its prefix instead.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        from spice_select.results.run_metadata import ProxyFacts
        from workers.units.select_result import store_result
        from workers.units.stored_selection import StoredSelection

        storage = StoredSelection(self.resources, claim, inputs, heartbeat)
        if inputs.config.schedule.kind == "periodic":
            from workers.units.periodic import select_periodically

            choice, proxy, device = select_periodically(self.resources, claim, inputs, storage, heartbeat)
        else:
            from spice_select.pipeline.select import select_from_pool

            choice = select_from_pool(inputs.config, storage, heartbeat, heartbeat.stop_reason)
            measured = inputs.shards[0].result
            proxy, device = ProxyFacts(**measured["proxy"]), str(measured["device"])
        if choice.selection.partial and (heartbeat.lost or heartbeat.stop is None):
            raise Stopped("the selection is given back")
        return store_result(
            self.resources.store, claim, inputs, choice, storage, folder, heartbeat, proxy=proxy, device=device
        )

    def commit(self, session: Any, claim: Claim, outcome: SelectionOutcome) -> None:
        """End the job with its result. A stop that came first decides how it ends; the prefix is kept either way."""
        assert claim.job_id is not None
        jobs = Jobs(session)
        job = jobs.lock(claim.job_id)
        stopped = job.status == JobStatus.CANCELLING
        status = JobStatus(job.stop_requested or JobStatus.CANCELLED) if stopped else JobStatus.SUCCEEDED
        seconds = _seconds(session, claim, job)
        result = {**outcome.job_result, "seconds": {**seconds, **outcome.job_result.get("seconds", {})}}
        old = (JobStatus.CANCELLING,) if stopped else (JobStatus.QUEUED, JobStatus.RUNNING)
        if jobs.move(job.id, old, status, result=result, partial=outcome.partial):
            jobs.add_ranking(job.id, outcome.ranking)
            jobs.add_files(job.id, job.project_id, outcome.files)
            data = {key: result[key] for key in IN_EVENT if key in result}
            Events(session).append(job.project_id, f"job.{status}", job_id=job.id, data=data)

    def clean_up(self, claim: Claim) -> None:
        """Remove the checkpoints of a periodic selection."""
        assert claim.job_id is not None
        shutil.rmtree(self.resources.store.checkpoints(claim.job_id), ignore_errors=True)


def _seconds(session: Any, claim: Claim, job: Job) -> dict[str, float]:
    """Wall time until the first work on the job, and over each kind of it (gradients 0 when they were ready)."""
    units, created_at = Units(session), job.created_at
    selection = units.get(claim.unit_id)
    assert selection is not None
    assert selection.started_at is not None
    work = units_of_jobs(session, [job])[job.id]
    fresh = [span for span in map(_span, work.shards) if span and span[1] > created_at]
    parts = [span for span in map(_span, work.parts) if span]
    spans = {unit.kind: span for unit in work.preparing if (span := _span(unit)) and span[1] > created_at}
    warmed = list(spans.values())
    begin = max(created_at, min((start for start, _ in (*warmed, *fresh, *parts)), default=selection.started_at))
    seconds = {"queued": (begin - created_at).total_seconds(), "gradients": 0.0}
    for kind, name in ((UnitKind.WARMUP, "warming_up"), (UnitKind.PREFILTER, "prefiltering")):
        if kind in spans:
            seconds[name] = (spans[kind][1] - max(begin, spans[kind][0])).total_seconds()
    if fresh:
        since = max(begin, min(start for start, _ in fresh)) if warmed else begin
        seconds["gradients"] = (max(finish for _, finish in fresh) - since).total_seconds()
    if parts:
        first, last = min(start for start, _ in parts), max(finish for _, finish in parts)
        seconds["selecting_parts"] = (last - first).total_seconds()
    return {name: max(0.0, value) for name, value in seconds.items()}


def _span(unit: Unit) -> tuple[datetime, datetime] | None:
    """When work on a unit began and ended; None when it has not."""
    return (unit.started_at, unit.finished_at) if unit.started_at is not None and unit.finished_at is not None else None
