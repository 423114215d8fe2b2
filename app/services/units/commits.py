"""Accepting what a worker made: the artifact is already stored, one fenced transaction makes it count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.ids import new_id
from app.persistence.repositories import Datasets, Evaluations, Events, GradientSets, Jobs, Units
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import Job, Unit, UnitCommit
from app.persistence.types import clock
from app.services.evaluations.service import UNIT_VERSION
from app.services.units.service import Claim
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


@dataclass(frozen=True)
class IngestOutcome:
    """A parsed data set.

    Attributes:
        values: Columns of the data set's row.
        rejected: Rows that cannot be used: ``row``, ``code``, ``detail``.
    """

    values: dict[str, Any]
    rejected: Iterable[dict[str, Any]]


@dataclass(frozen=True)
class WarmupOutcome:
    """The stored weights that a warm-up left."""

    artifact_sha256: str
    result: dict[str, Any]


@dataclass(frozen=True)
class GradientsOutcome:
    """A stored gradient shard."""

    artifact_sha256: str
    result: dict[str, Any]


@dataclass(frozen=True)
class PartOutcome:
    """What was chosen from a part of the pool, stored."""

    artifact_sha256: str
    result: dict[str, Any]


@dataclass(frozen=True)
class PlanOutcome:
    """What an evaluation is to train, stored.

    Attributes:
        artifact_sha256: Of the plan.
        trainings: How many there are.
        steps: Optimiser steps of each.
        result: What to remember of the plan in the records.
    """

    artifact_sha256: str
    trainings: int
    steps: int
    result: dict[str, Any]


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training led to, stored."""

    artifact_sha256: str
    result: dict[str, Any]


@dataclass(frozen=True)
class SelectionOutcome:
    """A finished (or, when ``partial``, stopped) selection with its files in the store."""

    result: dict[str, Any]
    ranking: Iterable[dict[str, Any]]
    files: list[dict[str, Any]]
    partial: bool


class CommitService:
    """The fenced commits.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def ingest(self, claim: Claim, outcome: IngestOutcome) -> bool:
        """Make a data set ready.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        with self.database.write() as session:
            if not self._fenced(session, claim, None, {"num_usable": outcome.values["num_usable"]}):
                return self._made_before(session, claim)
            datasets = Datasets(session)
            if datasets.settle(claim.dataset_id, DatasetStatus.READY, outcome.values):
                datasets.reject_rows(claim.dataset_id, outcome.rejected)
                data = {key: outcome.values[key] for key in ("num_rows", "num_usable", "num_rejected")}
                Events(session).append(claim.project_id, "dataset.ready", dataset_id=claim.dataset_id, data=data)
            return True

    def warmup(self, claim: Claim, outcome: WarmupOutcome) -> bool:
        """Make a warm-up count; the gradients that wait for it can be had from then on.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        with self.database.write() as session:
            if not self._fenced(session, claim, outcome.artifact_sha256, outcome.result):
                return self._made_before(session, claim)
            for job in Jobs(session).waiting_on_warmup(claim.unit_id):
                data = {"steps": outcome.result["steps"], "sha256": outcome.artifact_sha256}
                Events(session).append(claim.project_id, "job.warmed_up", job_id=job.id, data=data)
            return True

    def gradients(self, claim: Claim, outcome: GradientsOutcome) -> bool:
        """Make a gradient shard count, and its set ready when it was the last one.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        assert claim.gradient_set_id is not None
        with self.database.write() as session:
            sets, units = GradientSets(session), Units(session)
            # The lock lets the later of two last shards see the earlier one done.
            sets.lock(claim.gradient_set_id)
            if not self._fenced(session, claim, outcome.artifact_sha256, outcome.result):
                return self._made_before(session, claim)
            if not units.unfinished_shards(claim.gradient_set_id):
                sets.set_status(claim.gradient_set_id, GradientSetStatus.READY)
                for job in Jobs(session).waiting_on(claim.gradient_set_id):
                    data = {"gradient_set_id": claim.gradient_set_id}
                    Events(session).append(claim.project_id, "job.gradients_ready", job_id=job.id, data=data)
            return True

    def part(self, claim: Claim, outcome: PartOutcome) -> bool:
        """Make the choice from a part count; the selection can be had when it was the last one.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        assert claim.job_id is not None
        with self.database.write() as session:
            if not self._fenced(session, claim, outcome.artifact_sha256, outcome.result):
                return self._made_before(session, claim)
            # The unit before the job, as everywhere. The lock lets the later of two last parts see the other done.
            job = Jobs(session).lock(claim.job_id)
            if job.status in ACTIVE and not Units(session).unfinished_parts(claim.job_id):
                Events(session).append(claim.project_id, "job.parts_ready", job_id=claim.job_id)
            return True

    def selection(self, claim: Claim, outcome: SelectionOutcome) -> bool:
        """End a job with its result. A stop that came first decides how it ends; the prefix is kept either way.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        assert claim.job_id is not None
        assert claim.gradient_set_id is not None
        with self.database.write() as session:
            if not self._fenced(session, claim, None, {"selected": outcome.result["selected"]}):
                return self._made_before(session, claim)
            jobs = Jobs(session)
            job = jobs.lock(claim.job_id)
            stopped = job.status == JobStatus.CANCELLING
            status = JobStatus(job.stop_requested or JobStatus.CANCELLED) if stopped else JobStatus.SUCCEEDED
            seconds = self._seconds(session, claim, job)
            result = {**outcome.result, "seconds": {**seconds, **outcome.result.get("seconds", {})}}
            old = (JobStatus.CANCELLING,) if stopped else (JobStatus.QUEUED, JobStatus.RUNNING)
            if jobs.move(job.id, old, status, result=result, partial=outcome.partial):
                jobs.add_ranking(job.id, outcome.ranking)
                jobs.add_files(job.id, job.project_id, outcome.files)
                told = ("selected", "stop_reason", "excluded", "excluded_by_code")
                data = {key: result[key] for key in told if key in result}
                Events(session).append(job.project_id, f"job.{status}", job_id=job.id, data=data)
            return True

    def plan(self, claim: Claim, outcome: PlanOutcome) -> bool:
        """Make the plan of an evaluation count, and its trainings units of their own.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        assert claim.evaluation_id is not None
        with self.database.write() as session:
            if not self._fenced(session, claim, outcome.artifact_sha256, outcome.result):
                return self._made_before(session, claim)
            evaluations = Evaluations(session)
            evaluation = evaluations.lock(claim.evaluation_id)
            # A plan that was lost and made again has its trainings already.
            planned = evaluations.units(claim.evaluation_id, UnitKind.EVALUATION_TRAINING)
            if evaluation.status in EVALUATING and not planned:
                unit = {
                    "project_id": claim.project_id,
                    "dataset_id": claim.dataset_id,
                    "schema_version": UNIT_VERSION,
                }
                unit |= {"evaluation_id": claim.evaluation_id, "kind": UnitKind.EVALUATION_TRAINING}
                rows = [
                    {**unit, "id": new_id("unit"), "shard": number, "total": outcome.steps}
                    for number in range(outcome.trainings)
                ]
                Units(session).add_all(rows)
                data = {"trainings": outcome.trainings}
                Events(session).append(
                    claim.project_id, "evaluation.planned", evaluation_id=claim.evaluation_id, data=data
                )
            return True

    def training(self, claim: Claim, outcome: TrainingOutcome) -> bool:
        """Make a training of an evaluation count.

        Returns:
            False when the lease was stale: the outcome is discarded.
        """
        assert claim.evaluation_id is not None
        with self.database.write() as session:
            if not self._fenced(session, claim, outcome.artifact_sha256, outcome.result):
                return self._made_before(session, claim)
            data = {name: outcome.result[name] for name in ("arm", "seed")}
            Events(session).append(claim.project_id, "evaluation.trained", evaluation_id=claim.evaluation_id, data=data)
            return True

    def report(self, claim: Claim, result: dict[str, Any]) -> bool:
        """End an evaluation with its report.

        Returns:
            False when the lease was stale: the report is discarded.
        """
        assert claim.evaluation_id is not None
        with self.database.write() as session:
            if not self._fenced(session, claim, None, {"verdict": result["verdict"]}):
                return self._made_before(session, claim)
            if Evaluations(session).move(claim.evaluation_id, EVALUATING, EvaluationStatus.SUCCEEDED, result=result):
                data = {"verdict": result["verdict"], "sentence": result["sentence"]}
                Events(session).append(
                    claim.project_id, "evaluation.succeeded", evaluation_id=claim.evaluation_id, data=data
                )
            return True

    @staticmethod
    def _fenced(session: Any, claim: Claim, artifact_sha256: str | None, result: dict[str, Any]) -> bool:
        units = Units(session)
        if not units.end_lease(claim.unit_id, claim.epoch, UnitState.DONE, {"finished_at": clock(), "error": None}):
            return False
        units.record_commit(
            UnitCommit(
                unit_id=claim.unit_id,
                generation=claim.generation,
                epoch=claim.epoch,
                owner=claim.owner,
                artifact_sha256=artifact_sha256,
                result=result,
                committed_at=now(session),
            )
        )
        return True

    @staticmethod
    def _made_before(session: Any, claim: Claim) -> bool:
        """Whether this very epoch has committed already: then a retry after a lost answer is a success, not stale."""
        return Units(session).committed(claim.unit_id, claim.epoch) is not None

    @staticmethod
    def _seconds(session: Any, claim: Claim, job: Job) -> dict[str, float]:
        """Wall time until the first work on the job, and over each kind of it (gradients 0 when they were ready)."""
        units, created_at = Units(session), job.created_at
        selection = units.get(claim.unit_id)
        assert selection is not None
        assert selection.started_at is not None
        warmup, shards, pool_parts, _, _ = units.for_job(job)
        fresh = [span for span in map(_span, shards) if span and span[1] > created_at]
        parts = [span for span in map(_span, pool_parts) if span]
        warming = None if warmup is None else _span(warmup)
        warmed = [warming] if warming is not None and warming[1] > created_at else []
        begin = max(created_at, min((start for start, _ in (*warmed, *fresh, *parts)), default=selection.started_at))
        seconds = {"queued": (begin - created_at).total_seconds(), "gradients": 0.0}
        if warmed:
            seconds["warming_up"] = (warmed[0][1] - begin).total_seconds()
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
