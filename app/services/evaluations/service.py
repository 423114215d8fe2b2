"""Use cases of evaluations: make, show, list, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.errors import ConflictError, NotFoundError, ServiceError
from app.ids import new_id
from app.persistence.repositories import Datasets, Evaluations, Events, Jobs, ListFilter, OwnedUnits, Units
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import Dataset, Evaluation, Job, Unit
from app.services.compat import understood
from app.services.evaluations.estimates import EvaluationEstimate, estimate_evaluation
from app.services.idempotency import repeated, replayed
from app.services.if_match import require_version
from app.services.jobs.progress import WAITING, Progress, is_worked_on, shared_progress, unit_progress
from app.services.jobs.proxies import Proxies
from app.services.jobs.validation import usable_dataset
from app.services.quotas import Quotas
from app.status import ACTIVE, EVALUATING, EvaluationStatus, UnitKind, UnitState
from spice_select.config import ProxyConfig, RunConfig
from spice_select.evaluation.settings import EvaluationConfig

OPERATION = "POST /v1/evaluations"
UNIT_VERSION = 3
"""Least version of a worker that knows these units."""
TRAINING = "training"


@dataclass(frozen=True)
class EvaluationRequest:
    """What a client asks for, checked field by field but not yet against the job."""

    job_id: str
    config: EvaluationConfig
    holdout_dataset_id: str | None = None
    model: ProxyConfig | None = None
    group: str | None = None
    max_length: int | None = None
    name: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationView:
    """An evaluation with what is derived from its units at this moment."""

    evaluation: Evaluation
    phase: str | None
    progress: Progress | None


class EvaluationService:
    """Evaluations of one service.

    Args:
        database: Where the records are.
        proxies: Resolves models.
        quotas: What a project may hold.
    """

    def __init__(self, database: Database, proxies: Proxies, quotas: Quotas) -> None:
        self.database = database
        self.quotas = quotas
        self.proxies = proxies

    def create(
        self, project_id: str, request: EvaluationRequest, *, key: str | None, body: str
    ) -> tuple[EvaluationView, bool]:
        """Queue an evaluation of what a job chose.

        Args:
            project_id: Owner.
            request: What is asked for.
            key: Idempotency-Key.
            body: Digest of the request, to compare repeated calls by.

        Returns:
            The evaluation, and whether an earlier call with this key had made it.

        Raises:
            ServiceError: The job, the held-out rows or the model rule the evaluation out.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        evaluation_id = new_id("ev")
        with self.database.read() as session:
            # A repeated call must work while the model hub does not, so it is looked for before the model is resolved.
            earlier = None if key is None else repeated(session, project_id, OPERATION, key, body)
            job = None if earlier is not None else _job_with_choice(session, project_id, request.job_id)
        if earlier is not None:
            return self.get(project_id, earlier), True
        assert job is not None
        settings = understood(RunConfig, job.config, f"job {job.id}")
        model = self.proxies.resolve(request.model or settings.proxy)
        with self.database.write() as session:
            known = replayed(session, project_id, OPERATION, key, body, evaluation_id)
            if known is None:
                self.quotas.refuse(session, project_id, queued=1, stored_bytes=1)
                job = _job_with_choice(session, project_id, request.job_id)
                dataset = usable_dataset(session, project_id, job.dataset_id, "#/job_id")
                holdout = _holdout(session, job, settings, dataset, request.holdout_dataset_id)
                _check_group(request.group, dataset, holdout)
                Evaluations(session).add(
                    Evaluation(
                        id=evaluation_id,
                        project_id=project_id,
                        job_id=job.id,
                        dataset_id=dataset.id,
                        holdout_dataset_id=None if holdout is None else holdout.id,
                        name=request.name,
                        status=EvaluationStatus.QUEUED,
                        model=model.config.model_dump(mode="json"),
                        model_revision=model.revision,
                        config=request.config.model_dump(mode="json"),
                        group_column=request.group,
                        max_length=request.max_length or settings.gradients.max_length,
                        metadata_=request.metadata,
                        created_at=now(session),
                    )
                )
                unit = {"project_id": project_id, "dataset_id": dataset.id, "evaluation_id": evaluation_id, "shard": 0}
                unit["schema_version"] = UNIT_VERSION
                kinds = (UnitKind.EVALUATION_PLAN, UnitKind.EVALUATION_REPORT)
                Units(session).add_all({**unit, "id": new_id("unit"), "kind": kind} for kind in kinds)
                data = {"job_id": job.id}
                Events(session).append(project_id, "evaluation.queued", evaluation_id=evaluation_id, data=data)
        return self.get(project_id, known or evaluation_id), known is not None

    def estimate(self, project_id: str, request: EvaluationRequest) -> EvaluationEstimate:
        """What an evaluation would take; refused like the evaluation itself.

        Args:
            project_id: Owner.
            request: What is asked for.

        Raises:
            ServiceError: The job, the held-out rows or the model rule the evaluation out.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        with self.database.read() as session:
            job = _job_with_choice(session, project_id, request.job_id)
        settings = understood(RunConfig, job.config, f"job {job.id}")
        model = self.proxies.resolve(request.model or settings.proxy)
        with self.database.read() as session:
            dataset = usable_dataset(session, project_id, job.dataset_id, "#/job_id")
            holdout = _holdout(session, job, settings, dataset, request.holdout_dataset_id)
            _check_group(request.group, dataset, holdout)
            assert job.result is not None
            return estimate_evaluation(
                session,
                dataset,
                request.config,
                chosen=int(job.result["selected"]),
                held_out=len(set(settings.conditions.exclude)) if holdout is None else holdout.num_usable or 0,
                revision=model.revision,
                max_length=request.max_length or settings.gradients.max_length,
                grouped=request.group is not None,
                settings=self.proxies.settings,
            )

    def get(self, project_id: str, evaluation_id: str) -> EvaluationView:
        """One evaluation.

        Raises:
            NotFoundError: There is none of this id in the project.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _find()
        with self.database.read() as session:
            return views_of(session, [_find(session, project_id, evaluation_id)])[0]

    def page(
        self, project_id: str, wanted: ListFilter, *, job_id: str | None = None, before: str | None, limit: int
    ) -> list[EvaluationView]:
        """Evaluations, newest first."""
        with self.database.read() as session:
            evaluations = Evaluations(session).page(project_id, wanted, job_id=job_id, before=before, limit=limit)
            return views_of(session, evaluations)

    def cancel(self, project_id: str, evaluation_id: str, expected: frozenset[int] | None = None) -> EvaluationView:
        """Stop an evaluation at once: half the trainings support no verdict, so nothing of it is kept.

        All its units end with it; whoever holds one is told with the next heartbeat.

        Raises:
            ConflictError: The evaluation has ended.
        """
        with self.database.write() as session:
            _find(session, project_id, evaluation_id)
            evaluations = Evaluations(session)
            # Units before what they belong to, as everywhere: two orders would deadlock.
            OwnedUnits(session, evaluation_id=evaluation_id).close()
            require_version(evaluations.lock(evaluation_id).version, expected)
            if not evaluations.move(evaluation_id, EVALUATING, EvaluationStatus.CANCELLED):
                raise ConflictError("the evaluation has ended already")
            Events(session).append(project_id, "evaluation.cancelled", evaluation_id=evaluation_id)
        return self.get(project_id, evaluation_id)


def _find(session: Any, project_id: str, evaluation_id: str) -> Evaluation:
    evaluation = Evaluations(session).get(project_id, evaluation_id)
    if evaluation is None:
        raise NotFoundError(f"evaluation {evaluation_id}")
    return evaluation


def _job_with_choice(session: Any, project_id: str, job_id: str) -> Job:
    """The job to evaluate.

    Raises:
        ServiceError: ``not-found``.
        ConflictError: It has no result.
    """
    job = Jobs(session).hold(project_id, job_id)
    if job is None:
        raise ServiceError("not-found", f"there is no job {job_id}", pointer="#/job_id")
    if job.status in ACTIVE:
        raise ConflictError(f"the job has no result yet: {job.status}", headers={"Retry-After": "2"})
    if job.result is None:
        raise ConflictError(f"the job ended without a result: {job.status}")
    return job


def _holdout(
    session: Any, job: Job, settings: RunConfig, dataset: Dataset, holdout_dataset_id: str | None
) -> Dataset | None:
    """The held-out data set, or None for the rows that the job excludes.

    Held-out rows must not come from the candidate pool: the selection was optimised on them.

    Raises:
        ServiceError: ``holdout-unusable``.
    """
    pointer = "#/holdout_dataset_id"
    if holdout_dataset_id is None:
        excluded = settings.conditions.exclude
        if not excluded:
            raise ServiceError(
                "holdout-unusable",
                "every row of the data set is in the candidate pool, so none can be held out: name another "
                "data set as holdout_dataset_id, or make the job with rows to exclude",
                pointer=pointer,
            )
        usable = len(set(excluded)) - len(Datasets(session).rejected_among(dataset.id, excluded))
        if usable < 2:
            raise ServiceError(
                "holdout-unusable", f"{usable} excluded rows are usable; at least two must be held out", pointer=pointer
            )
        return None
    holdout = usable_dataset(session, job.project_id, holdout_dataset_id, pointer)
    if holdout.id == dataset.id or holdout.rows_sha256 == dataset.rows_sha256:
        raise ServiceError("holdout-unusable", "these are the rows that the job chose from", pointer=pointer)
    target = job.target_dataset_id
    if target is not None and holdout.rows_sha256 == Datasets(session).get_even_deleted(target).rows_sha256:
        raise ServiceError("holdout-unusable", "the choice was made to be close to these rows", pointer=pointer)
    if (holdout.num_usable or 0) < 2:
        raise ServiceError("holdout-unusable", "the data set has one usable row, two are needed", pointer=pointer)
    return holdout


def _check_group(group: str | None, dataset: Dataset, holdout: Dataset | None) -> None:
    """Refuse a column that the rows do not have.

    Raises:
        ServiceError: ``config-invalid``.
    """
    for place in (dataset, holdout):
        if group is not None and place is not None and group not in (place.column_names or []):
            raise ServiceError("config-invalid", f"data set {place.id} has no column {group!r}", pointer="#/group")


def views_of(session: Any, evaluations: Sequence[Evaluation]) -> list[EvaluationView]:
    """Evaluations as they stand, within a transaction."""
    live = [evaluation.id for evaluation in evaluations if evaluation.status in EVALUATING]
    if not live:
        return [EvaluationView(evaluation, None, None) for evaluation in evaluations]
    units, moment = Evaluations(session).units_now(live)
    moment = moment or now(session)
    return [
        EvaluationView(
            evaluation, *(_progress(units.get(evaluation.id, []), moment) if evaluation.id in live else (None, None))
        )
        for evaluation in evaluations
    ]


def _progress(units: list[Unit], moment: datetime) -> tuple[str, Progress | None]:
    """Phase and progress; trainings are counted while there are any to do."""
    trainings = [unit for unit in units if unit.kind == UnitKind.EVALUATION_TRAINING]
    if trainings and any(unit.state != UnitState.DONE for unit in trainings):
        progress = shared_progress(trainings, moment, TRAINING, "trainings")
        return progress.phase, progress
    held = next((unit for unit in units if is_worked_on(unit, moment)), None)
    return (held.phase if held is not None else None) or WAITING, unit_progress(held, moment)
