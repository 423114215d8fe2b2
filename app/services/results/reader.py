"""What a job chose: its ranking and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.errors import ConflictError, NotFoundError, ServiceError
from app.logs import get_logger
from app.persistence.repositories import Events, Jobs
from app.persistence.session import Database
from app.persistence.tables import File, Job, SelectedSample
from app.services.jobs.service import find_job
from app.status import ACTIVE
from app.storage import ArtifactStore


class ResultReader:
    """Results of finished jobs.

    Args:
        database: Where the records are.
        store: Where the bytes are.
    """

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self.database = database
        self.store = store
        self._damaged: set[tuple[str, str]] = set()

    def ranking(self, project_id: str, job_id: str, *, after: int, limit: int) -> list[SelectedSample]:
        """Picks behind a rank, in order.

        Raises:
            ConflictError: The job has no result yet.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _finished()
        with self.database.read() as session:
            _finished(session, project_id, job_id)
            return Jobs(session).picks(job_id, after=after, limit=limit)

    def files(self, project_id: str, job_id: str) -> list[File]:
        """Files of the result.

        Raises:
            ConflictError: The job has no result yet.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _finished()
        with self.database.read() as session:
            _finished(session, project_id, job_id)
            return Jobs(session).files(job_id)

    def file(self, project_id: str, job_id: str, name: str) -> tuple[File, Path]:
        """One file of the result and where its bytes lie.

        Raises:
            NotFoundError: The result has no file of that name.
            ServiceError: ``artifact-corrupt`` when its bytes have changed, ``artifact-lost`` when they are gone.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by intact()
        with self.database.read() as session:
            _finished(session, project_id, job_id)
            file = Jobs(session).file(project_id, job_id, name)
        if file is None:
            raise NotFoundError(f"file {name} of job {job_id}")
        return file, self.intact(project_id, job_id, file.name, file.sha256)

    def intact(self, project_id: str, job_id: str, name: str, sha256: str) -> Path:
        """Where the bytes of a file lie, once they have been checked; the history tells when they are not sound.

        Args:
            project_id: Owner.
            job_id: The job.
            name: The file.
            sha256: Its digest (hex).

        Raises:
            ServiceError: ``artifact-corrupt`` when its bytes have changed, ``artifact-lost`` when they are gone.
        """
        try:
            return self.store.intact(project_id, sha256)
        except ServiceError as error:
            self._record_damage(project_id, job_id, name, sha256, error.code)
            raise

    def _record_damage(self, project_id: str, job_id: str, name: str, sha256: str, code: str) -> None:
        """Write into the history that a file is damaged: once a process, however often it is asked for."""
        if (job_id, name) in self._damaged:
            return
        self._damaged.add((job_id, name))
        get_logger().error("result_file_damaged", job_id=job_id, file=name, sha256=sha256, code=code)
        data = {"file": name, "sha256": sha256, "code": code}
        with self.database.write() as session:
            Events(session).append(project_id, "job.file_damaged", job_id=job_id, data=data)


def _finished(session: Any, project_id: str, job_id: str) -> Job:
    job = find_job(session, project_id, job_id)
    if job.status in ACTIVE:
        raise ConflictError(f"the job has no result yet: {job.status}", headers={"Retry-After": "2"})
    if job.result is None:
        raise ConflictError(f"the job ended without a result: {job.status}")
    return job
