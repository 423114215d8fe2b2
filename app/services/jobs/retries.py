"""A job that ended without a whole result, tried again: another with the same settings, which takes what is done."""

from __future__ import annotations

from app.errors import ConflictError
from app.persistence.repositories import Datasets
from app.services.compat import understood
from app.services.jobs.request import JobRequest
from app.services.jobs.service import JobService, JobView, find_job
from app.status import RETRYABLE, JobStatus
from spice_select.config import RunConfig, digest_of

OPERATION = "POST /v1/jobs/{id}/retry"


def retry(
    jobs: JobService, project_id: str, job_id: str, *, key: str | None, traceparent: str | None = None
) -> tuple[JobView, bool]:
    """Queue a job with the settings of one that failed, was cancelled or expired.

    The earlier one stays as it ended, with its history and whatever it kept. Gradients that are there, its target rows
    and the parts of a pool that it finished are taken over.

    Args:
        jobs: Makes the job.
        project_id: Owner.
        job_id: The job to try again.
        key: Idempotency-Key.
        traceparent: Of the caller.

    Returns:
        The new job, and whether an earlier call with this key had made it.

    Raises:
        ConflictError: It has not ended, or succeeded.
        ServiceError: What it needs is gone, or rules it out now.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the calls
    with jobs.database.read() as session:
        job = find_job(session, project_id, job_id)
        if job.status not in RETRYABLE:
            succeeded = job.status == JobStatus.SUCCEEDED
            raise ConflictError(f"the job {'has succeeded' if succeeded else 'has not ended'}: there is nothing to try")
        config = understood(RunConfig, job.config, f"job {job_id}")
        gathered = bool(config.conditions.targets or config.conditions.protect) and job.target_dataset_id is not None
        kept = Datasets(session).get(project_id, job.target_dataset_id or "") if gathered else None
    deadline = None if job.deadline_at is None else (job.deadline_at - job.created_at).total_seconds()
    request = JobRequest(
        dataset_id=job.dataset_id,
        settings=lambda proxy: config.model_copy(update={"proxy": proxy}),
        proxy=config.proxy,
        name=job.name,
        metadata=job.metadata_,
        deadline_seconds=deadline,
        priority=job.priority,
        parent=job.parent,
        traceparent=traceparent,
        retry_of=job_id,
        target_rows_id=None if kept is None else kept.id,
    )
    return jobs.create(project_id, request, key=key, body=digest_of({"job_id": job_id}), operation=OPERATION)
