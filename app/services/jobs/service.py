"""Use cases of jobs: make, show, list, change, cancel, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.errors import ConflictError, NotFoundError, ServiceError
from app.ids import new_id
from app.persistence.repositories import (
    Artifacts,
    Evaluations,
    Events,
    Jobs,
    JobUnits,
    ListFilter,
    OwnedUnits,
    Units,
    units_of_jobs,
)
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import Job
from app.services.idempotency import first_call, made_before, replayed
from app.services.if_match import require_version
from app.services.jobs.estimates import Estimate, Estimator, Past, refuse_unfit
from app.services.jobs.planning import adopt_parts, needed_sets, selection_units
from app.services.jobs.progress import Progress, QueuePosition, job_phase, job_progress, queue_position
from app.services.jobs.proxies import Proxies, ResolvedProxy
from app.services.jobs.refusals import check_job
from app.services.jobs.request import JobRequest
from app.services.jobs.targets import forget_target_rows, gather_targets, kept_if_made
from app.services.jobs.validation import read_groups
from app.services.quotas import Quotas
from app.services.storage.retention import Retention
from app.status import ACTIVE, TERMINAL, JobStatus, UnitState
from app.storage import ArtifactStore
from spice_select.config import RunConfig
from spice_select.defaults import with_dtype

OPERATION = "POST /v1/jobs"
MOST_PAIRS = 16
"""Pairs of metadata that a job may have."""
Filters = ListFilter
"""Filters of the lists."""


@dataclass(frozen=True)
class JobView:
    """A job with its phase, progress and place in the queue at this moment."""

    job: Job
    phase: str | None
    progress: Progress | None
    queue: QueuePosition | None = None


class JobService:
    """Jobs of one service.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        proxies: Resolves proxy models.
        retention: Removes the bytes of deleted jobs.
    """

    def __init__(self, database: Database, store: ArtifactStore, proxies: Proxies, retention: Retention) -> None:
        self.database = database
        self.store = store
        self.proxies = proxies
        self.retention = retention
        self.estimator = Estimator(proxies.settings, store)
        self.quotas = Quotas(store, proxies.settings)

    def create(
        self, project_id: str, request: JobRequest, *, key: str | None, body: str, operation: str = OPERATION
    ) -> tuple[JobView, bool]:
        """Queue a job; its gradient set is shared with every job that needs the same gradients.

        Args:
            project_id: Owner.
            request: What is asked for.
            key: Idempotency-Key.
            body: Digest of the request, to compare repeated calls by.
            operation: What the key is for.

        Returns:
            The job, and whether an earlier call with this key had made it.

        Raises:
            ServiceError: The data set, the budget or the proxy model rules the job out.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        job_id = new_id("job")
        if self.proxies.asks_hub(request.proxy):
            # A repeated call must work while the model hub does not, so it is looked for before the proxy is resolved.
            earlier = first_call(self.database, project_id, operation, key, body)
            if earlier is not None:
                return made_before(partial(self.get, project_id, earlier), f"job {earlier}"), True
        proxy = self.proxies.resolve(request.proxy)
        past = self.estimator.past(self.database, project_id)
        config = _settled(request, proxy, past)
        groups = self._groups(project_id, request.dataset_id, config)
        rows = None
        if request.target_rows_id is None and (config.conditions.targets or config.conditions.protect):
            earlier = first_call(self.database, project_id, operation, key, body)  # before anything is stored
            if earlier is not None:
                return made_before(partial(self.get, project_id, earlier), f"job {earlier}"), True
            rows = gather_targets(self.database, self.store, project_id, request.dataset_id, config, quotas=self.quotas)
        with kept_if_made(self.database, project_id, rows), self.database.write() as session:
            known = replayed(session, project_id, operation, key, body, job_id)
            if known is None:
                self.quotas.refuse(session, project_id, queued=1, stored_bytes=1, datasets=0 if rows is None else 1)
                dataset, target = check_job(session, project_id, request, config, proxy.revision, rows, groups)
                target = target if rows is None else rows.record(session, project_id, job_id)
                sets = needed_sets(session, dataset, target, config, proxy.revision)
                gradient_set, reused = sets[dataset.id][0], all(is_ready for _, is_ready in sets.values())
                estimate = self.estimator.estimate(session, dataset, target, config, proxy, past, gradient_set)
                refuse_unfit(estimate)
                job = Jobs(session).add(
                    {
                        "id": job_id,
                        "project_id": project_id,
                        "name": request.name,
                        "dataset_id": dataset.id,
                        "gradient_set_id": gradient_set.id,
                        "target_dataset_id": None if target is None else target.id,
                        "target_gradient_set_id": None if target is None else sets[target.id][0].id,
                        "gradients_reused": reused,
                        "status": JobStatus.QUEUED,
                        "config": config.model_dump(mode="json"),
                        "estimate": estimate.as_json(),
                        "metadata_": request.metadata,
                        "priority": request.priority,
                        "parent": request.parent,
                        "retry_of": request.retry_of,
                        "traceparent": request.traceparent,
                    },
                    request.deadline_seconds,
                )
                unit = {"project_id": project_id, "job_id": job_id, "dataset_id": dataset.id}
                unit["gradient_set_id"] = gradient_set.id
                own_units = [
                    {**unit, "id": new_id("unit"), **own} for own in selection_units(config, dataset.num_usable or 0)
                ]
                Units(session).add_all(own_units)
                if request.retry_of is not None:
                    adopt_parts(session, own_units, request.retry_of, gradient_set.id)
                Events(session).append(
                    project_id,
                    "job.queued",
                    job_id=job_id,
                    data={
                        "gradients_reused": reused,
                        "pool": dataset.num_usable,
                        **({} if request.retry_of is None else {"retry_of": request.retry_of}),
                    },
                )
                # Within the transaction: a place in the queue costs nobody a lock, another session costs us time.
                view = self.view(session, job)
        if known is not None:
            return made_before(partial(self.get, project_id, known), f"job {known}"), True
        return view, False

    def estimate(self, project_id: str, request: JobRequest) -> Estimate:
        """What a job would take; refused like the job itself, except that what does not fit is told, not raised.

        Raises:
            ServiceError: The data set, the settings or the proxy model rule the job out.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        proxy = self.proxies.resolve(request.proxy)
        past = self.estimator.past(self.database, project_id)
        config = _settled(request, proxy, past)
        groups = self._groups(project_id, request.dataset_id, config)
        rows = gather_targets(self.database, self.store, project_id, request.dataset_id, config, quotas=None)
        with self.database.read() as session:
            dataset, target = check_job(session, project_id, request, config, proxy.revision, rows, groups)
            return self.estimator.estimate(session, dataset, target, config, proxy, past, None)

    def _groups(self, project_id: str, dataset_id: str, config: RunConfig) -> dict[int, str]:
        """The group of every usable row, where there are quotas to hold against them."""
        quotas = config.selection.quotas
        if quotas is None or quotas.column is None or not (quotas.floors or quotas.caps):
            return {}
        return read_groups(self.database, self.store, project_id, dataset_id, quotas.column)

    def get(self, project_id: str, job_id: str) -> JobView:
        """One job.

        Raises:
            NotFoundError: There is none of this id in the project.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by find_job()
        with self.database.read() as session:
            job = find_job(session, project_id, job_id)
            return self.view(session, job)

    @staticmethod
    def view(session: Any, job: Job, work: JobUnits | None = None, *, with_queue: bool = True) -> JobView:
        """A job as it stands, within a transaction.

        Args:
            session: The running transaction.
            job: The job.
            work: Its units where they are read already.
            with_queue: Whether its place in the queue is wanted.
        """
        if job.status in TERMINAL:
            return JobView(job, None, None)
        work = work or units_of_jobs(session, [job])[job.id]
        place = queue_position(session, job) if with_queue and job.status == JobStatus.QUEUED else None
        return JobView(job, job_phase(work), job_progress(work), place)

    def page(self, project_id: str, wanted: ListFilter, *, before: str | None, limit: int) -> list[JobView]:
        """Jobs, in the order that is wanted."""
        with self.database.read() as session:
            jobs = Jobs(session).page(project_id, wanted, before=before, limit=limit)
            work = units_of_jobs(session, [job for job in jobs if job.status not in TERMINAL])
            return [self.view(session, job, work.get(job.id), with_queue=False) for job in jobs]

    def cancel(self, project_id: str, job_id: str, expected: frozenset[int] | None = None) -> JobView:
        """Stop a job. While it selects, it keeps what it has chosen so far; before that nothing is left of it.

        The first round of a pool cut into parts is before that: no part speaks for the whole pool.

        Raises:
            ConflictError: The job has ended.
        """
        with self.database.write() as session:
            find_job(session, project_id, job_id)
            require_version(Jobs(session).lock(job_id).version, expected)
            if not stop_job(session, job_id, JobStatus.CANCELLED):
                raise ConflictError("the job has ended already")
        return self.get(project_id, job_id)

    def edit(
        self,
        project_id: str,
        job_id: str,
        values: Mapping[str, Any],
        metadata: Mapping[str, str | None] | None,
        expected: frozenset[int] | None,
    ) -> None:
        """Change a job; its version rises when anything is another than it was.

        Args:
            project_id: Owner.
            job_id: The job.
            values: New ``name`` and ``priority``, whichever is there.
            metadata: Pairs to set, or to take away where the value is None; None takes all away, an empty mapping none.
            expected: Versions that may be changed; None for any.

        Raises:
            ConflictError: The job has ended, and its priority is to be changed.
            ServiceError: ``not-found``, ``precondition-failed``, or ``validation-error`` for too many pairs.
        """
        with self.database.write() as session:
            jobs = Jobs(session)
            find_job(session, project_id, job_id)
            job = jobs.lock(job_id)
            require_version(job.version, expected)
            merged = {**job.metadata_, **metadata} if metadata is not None else {}
            wanted = {**values, "metadata_": {key: value for key, value in merged.items() if value is not None}}
            if len(wanted["metadata_"]) > MOST_PAIRS:
                detail = f"a job has at most {MOST_PAIRS} pairs of metadata"
                raise ServiceError("validation-error", detail, pointer="#/metadata")
            changed = {name: value for name, value in wanted.items() if getattr(job, name) != value}
            if "priority" in changed and job.status not in ACTIVE:
                raise ConflictError("the job has ended, its priority means nothing any more")
            if changed:
                jobs.edit(job_id, changed)

    def delete(self, project_id: str, job_id: str, expected: frozenset[int] | None) -> None:
        """Take a job that has ended away, with its ranking and its files; deleting it again changes nothing.

        Args:
            project_id: Owner.
            job_id: The job.
            expected: Versions that may be deleted; None for any.

        Raises:
            NotFoundError: There is no such job in the project.
            ConflictError: It has not ended, or ``job-in-use`` while another job or an evaluation needs its choice.
            ServiceError: ``precondition-failed``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by require_version()
        with self.database.write() as session:
            jobs = Jobs(session)
            job = jobs.lock_to_delete(project_id, job_id)
            if job is None:
                raise NotFoundError(f"job {job_id}")
            if job.deleted_at is not None:
                return
            require_version(job.version, expected)
            if job.status in ACTIVE:
                raise ConflictError(f"the job is {job.status}: cancel it first")
            if jobs.is_given(job):
                raise ConflictError("a job that has not ended counts its choice as owned", code="job-in-use")
            if Evaluations(session).active_of(job_id):
                raise ConflictError("an evaluation of it has not ended", code="job-in-use")
            obsolete = {file.sha256 for file in jobs.files(job_id)} | forget_target_rows(session, job)
            Artifacts(session).mark_obsolete(project_id, obsolete)
            jobs.forget(job_id)
            Events(session).append(project_id, "job.deleted", job_id=job_id)
        self.retention.remove_of(project_id, obsolete)


def _settled(request: JobRequest, proxy: ResolvedProxy, past: Past) -> RunConfig:
    """The settings of a job: ``dtype: auto`` becomes what is fast on every worker that is there now."""
    config = request.settings(proxy.config)
    gradients = with_dtype(config.gradients, proxy.sizes, is_fast=lambda: past.is_bfloat16_fast)
    return config.model_copy(update={"gradients": gradients})


def find_job(session: Any, project_id: str, job_id: str) -> Job:
    """A job of a project.

    Args:
        session: The running transaction.
        project_id: Whose.
        job_id: Which.

    Raises:
        NotFoundError: There is none of this id in the project.
    """
    job = Jobs(session).get(project_id, job_id)
    if job is None:
        raise NotFoundError(f"job {job_id}")
    return job


def stop_job(session: Any, job_id: str, outcome: JobStatus) -> bool:
    """End a job now, or ask the worker that is selecting for it to end it with what it has.

    Units are locked before the job: two orders would deadlock. Unless it is selecting, all of them end with it.

    Args:
        session: The running transaction.
        job_id: The job.
        outcome: ``cancelled`` or ``expired``.

    Returns:
        False when the job had ended already and was left alone.
    """
    jobs, units, events = Jobs(session), Units(session), Events(session)
    unit = units.lock_of_job(job_id)
    selecting = unit.state == UnitState.LEASED and unit.lease_until is not None and unit.lease_until > now(session)
    if not selecting:
        OwnedUnits(session, job_id=job_id).close()
    job = jobs.lock(job_id)
    if job.status in TERMINAL:
        return False
    jobs.request_stop(job_id, outcome)
    if selecting:
        if jobs.move(job_id, (JobStatus.QUEUED, JobStatus.RUNNING), JobStatus.CANCELLING):
            events.append(job.project_id, "job.cancelling", job_id=job_id, data={"reason": outcome})
        return True
    if jobs.move(job_id, ACTIVE, outcome):
        events.append(job.project_id, f"job.{outcome}", job_id=job_id)
    return True
