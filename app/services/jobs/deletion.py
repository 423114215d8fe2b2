"""Deleting jobs: what is in use stays, and so does the history."""

from __future__ import annotations

from app.errors import ConflictError, NotFoundError
from app.persistence.repositories import Artifacts, Evaluations, Events, Jobs
from app.persistence.session import Database
from app.services.if_match import require_version
from app.services.storage.retention import Retention
from app.status import ACTIVE


class JobDeletion:
    """Deletes jobs.

    Args:
        database: Where the records are.
        retention: Removes the bytes.
    """

    def __init__(self, database: Database, retention: Retention) -> None:
        self.database = database
        self.retention = retention

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
            obsolete = {file.sha256 for file in jobs.files(job_id)}
            Artifacts(session).mark_obsolete(project_id, obsolete)
            jobs.forget(job_id)
            Events(session).append(project_id, "job.deleted", job_id=job_id)
        self.retention.remove_of(project_id, obsolete)
