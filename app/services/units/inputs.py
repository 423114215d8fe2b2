"""What several kinds of unit need to know to be done, read in one go: no transaction is open while a worker works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.errors import ServiceError
from app.persistence.repositories import Datasets, Evaluations, GradientSets, Jobs, Units
from app.persistence.tables import Dataset, Evaluation, GradientSet, Job, Unit, UnitCommit
from app.services.compat import understood
from app.services.units.leases import Claim
from app.status import PREPARING, UnitKind
from spice_select.config import GradientConfig, ProxyConfig, RunConfig
from spice_select.evaluation.settings import EvaluationConfig


class ClaimGoneError(Exception):
    """What a claimed unit belongs to was cancelled and deleted since: nobody waits for it, nothing is recorded."""


@dataclass(frozen=True)
class Preparation:
    """What a warm-up or a prefilter left, and the unit that made it."""

    unit_id: str
    fingerprint: str
    sha256: str
    result: dict[str, Any]


@dataclass(frozen=True)
class UnitArtifact:
    """A stored gradient shard, or the selection from a part, and the unit that made it."""

    unit_id: str
    sha256: str
    result: dict[str, Any]
    fingerprint: str | None
    """What a gradient shard says it was made from; None for those of the time before it was that of its set."""


@dataclass(frozen=True)
class BaseSelectionInput:
    """The selection of another job on the same data set and gradients that a job adds to.

    Attributes:
        job_id: That job.
        ranking_sha256: Digest (hex) of its ``ranking.parquet``.
        source_rows: Its rows, by their number in the source.
    """

    job_id: str
    ranking_sha256: str
    source_rows: list[int]


@dataclass(frozen=True)
class TargetInputs:
    """The data set that a choice is to be close to, and its gradient shards in order."""

    dataset: Dataset
    fingerprint: str
    shards: list[UnitArtifact]


@dataclass(frozen=True)
class SelectInputs:
    """To select from a part or from the whole pool.

    Attributes:
        job: What is asked for.
        dataset: The data set it chooses from.
        gradient_set: The gradients it chooses by.
        config: The job's settings.
        shards: Gradient shards in the order of the pool.
        parts: What was selected from each part of the pool, in order; empty when it is not cut, or not done.
        created_at: When the job was made.
        bases: The selections of other jobs that it is to add to, the latest first.
        target: What it is to be close to.
        benchmarks: Data sets that nothing of may be trained on.
        warmup: The weights that its gradients are taken with, where the proxy model was warmed up.
        prefilter: Which rows have gradients, where not all do.
        checkpoint: What a selection by windows can be continued from.
    """

    job: Job
    dataset: Dataset
    gradient_set: GradientSet
    config: RunConfig
    shards: list[UnitArtifact]
    parts: list[UnitArtifact]
    created_at: datetime
    bases: Sequence[BaseSelectionInput] = ()
    target: TargetInputs | None = None
    benchmarks: tuple[Dataset, ...] = ()
    warmup: Preparation | None = None
    prefilter: Preparation | None = None
    checkpoint: dict[str, Any] | None = None


@dataclass(frozen=True)
class EvaluationInputs:
    """To evaluate what a job chose: the plan, a training, the report.

    Attributes:
        evaluation: What is asked for.
        dataset: The data set that the job chose from.
        holdout: The data set to judge by; None for the rows that the job was told to exclude.
        chosen: Rows that the job chose, by their number in the source, in pick order.
        excluded: Rows that the job was told to exclude, by their number in the source.
        config: How.
        model: What is trained.
        plan: The plan, once it is made.
        trainings: What is trained already, in order.
    """

    evaluation: Evaluation
    dataset: Dataset
    holdout: Dataset | None
    chosen: list[int]
    excluded: list[int]
    config: EvaluationConfig
    model: ProxyConfig
    plan: UnitArtifact | None
    trainings: list[UnitArtifact]


def selection_inputs(session: Any, claim: Claim) -> SelectInputs:
    """What a ``select`` or ``select_part`` unit is to do.

    Raises:
        ClaimGoneError: The job was deleted since the unit was claimed.
        ServiceError: ``newer-settings``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by understood()
    assert claim.job_id is not None
    job = Jobs(session).get(claim.project_id, claim.job_id)
    if job is None:
        raise ClaimGoneError
    gradient_set = GradientSets(session).get(claim.project_id, job.gradient_set_id)
    assert gradient_set is not None
    config = understood(RunConfig, job.config, f"job {job.id}")
    unit = Units(session).get(claim.unit_id)
    return SelectInputs(
        job=job,
        dataset=Datasets(session).get_even_deleted(job.dataset_id),
        gradient_set=gradient_set,
        config=config,
        shards=artifacts(Units(session).shard_commits(gradient_set.id)),
        parts=artifacts(Units(session).part_commits(job.id)),
        created_at=job.created_at,
        bases=_base_selections(session, claim.project_id, config.conditions.given_job),
        target=_target(session, job),
        benchmarks=tuple(
            Datasets(session).get_even_deleted(dataset_id) for dataset_id in config.conditions.screens.contamination
        ),
        **preparations(session, gradient_set.id),
        checkpoint=None if unit is None else unit.checkpoint,
    )


def evaluation_inputs(session: Any, claim: Claim) -> EvaluationInputs:
    """What a unit of an evaluation is to do.

    Raises:
        ClaimGoneError: The job was deleted since the unit was claimed.
        ServiceError: ``newer-settings``.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by understood()
    assert claim.evaluation_id is not None
    evaluations = Evaluations(session)
    evaluation = evaluations.get(claim.project_id, claim.evaluation_id)
    assert evaluation is not None
    job = Jobs(session).get(claim.project_id, evaluation.job_id)
    if job is None:
        raise ClaimGoneError
    holdout = evaluation.holdout_dataset_id
    plans = artifacts(evaluations.commits(evaluation.id, UnitKind.EVALUATION_PLAN))
    return EvaluationInputs(
        evaluation=evaluation,
        dataset=Datasets(session).get_even_deleted(evaluation.dataset_id),
        holdout=None if holdout is None else Datasets(session).get_even_deleted(holdout),
        chosen=Jobs(session).selected_rows(job.id),
        excluded=understood(RunConfig, job.config, f"job {job.id}").conditions.exclude,
        config=understood(EvaluationConfig, evaluation.config, f"evaluation {evaluation.id}"),
        model=understood(ProxyConfig, evaluation.model, f"evaluation {evaluation.id}"),
        plan=plans[0] if plans else None,
        trainings=artifacts(evaluations.commits(evaluation.id, UnitKind.EVALUATION_TRAINING)),
    )


def proxy_of(gradient_set: GradientSet) -> dict[str, Any]:
    """The proxy model of a set and how it measures."""
    config, owner = gradient_set.config, f"gradient set {gradient_set.id}"
    return {
        "proxy": understood(ProxyConfig, config["proxy"], owner),
        "proxy_revision": config["proxy_revision"],
        "gradients": understood(GradientConfig, config["gradients"], owner),
    }


def preparations(session: Any, gradient_set_id: str) -> dict[str, Any]:
    """What the ``warmup`` and the ``prefilter`` of a gradient set left, each a ``Preparation`` or None."""
    made: dict[str, Preparation | None] = {str(kind): None for kind in PREPARING}
    for unit, commit in Units(session).preparations(gradient_set_id):
        made[unit.kind] = Preparation(unit.id, unit.fingerprint or "", commit.artifact_sha256 or "", commit.result)
    return made


def _target(session: Any, job: Job) -> TargetInputs | None:
    if job.target_dataset_id is None or job.target_gradient_set_id is None:
        return None
    gradient_set = GradientSets(session).get(job.project_id, job.target_gradient_set_id)
    assert gradient_set is not None
    dataset = Datasets(session).get_even_deleted(job.target_dataset_id)
    return TargetInputs(dataset, gradient_set.fingerprint, artifacts(Units(session).shard_commits(gradient_set.id)))


def _base_selections(session: Any, project_id: str, job_id: str | None) -> list[BaseSelectionInput]:
    """The selections that a job is to add to: that of the job it names, and those that this one added to.

    Raises:
        ServiceError: ``given-job-unusable`` when one is gone.
    """
    jobs, found = Jobs(session), []
    for job in jobs.given_chain(project_id, job_id):
        ranking = jobs.file(project_id, job.id, "ranking.parquet")
        if ranking is None:
            raise ServiceError(
                "given-job-unusable", f"the choice of job {job.id} is no longer there", pointer="#/given_job"
            )
        found.append(BaseSelectionInput(job.id, ranking.sha256, jobs.selected_rows(job.id)))
    return found


def artifacts(made: list[tuple[Unit, UnitCommit]]) -> list[UnitArtifact]:
    """What committed units stored, in their order."""
    return [
        UnitArtifact(unit.id, commit.artifact_sha256 or "", commit.result, unit.fingerprint) for unit, commit in made
    ]
