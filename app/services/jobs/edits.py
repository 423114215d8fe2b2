"""Changing what a job is called, labelled and how soon it is served: nothing of what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import ConflictError, NotFoundError, ServiceError
from app.persistence.repositories import Jobs
from app.persistence.session import Database
from app.services.if_match import require_version
from app.status import ACTIVE

MOST_PAIRS = 16


@dataclass(frozen=True)
class JobEdit:
    """What is to be changed.

    Attributes:
        values: New ``name`` and ``priority``, whichever is there.
        metadata: Pairs to set, or to take away where the value is None; None takes all away, an empty mapping none.
    """

    values: Mapping[str, Any]
    metadata: Mapping[str, str | None] | None


class JobEdits:
    """Edits of jobs.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def edit(self, project_id: str, job_id: str, edit: JobEdit, expected: frozenset[int] | None) -> None:
        """Change a job; its version rises when anything is another than it was.

        Args:
            project_id: Owner.
            job_id: The job.
            edit: The change.
            expected: Versions that may be changed; None for any.

        Raises:
            ConflictError: The job has ended, and its priority is to be changed.
            NotFoundError: There is no such job in the project.
            ServiceError: ``precondition-failed``, or ``validation-error`` for too many pairs.
        """
        with self.database.write() as session:
            jobs = Jobs(session)
            if jobs.get(project_id, job_id) is None:
                raise NotFoundError(f"job {job_id}")
            job = jobs.lock(job_id)
            require_version(job.version, expected)
            merged = {**job.metadata_, **edit.metadata} if edit.metadata is not None else {}
            wanted = {**edit.values, "metadata_": {key: value for key, value in merged.items() if value is not None}}
            if len(wanted["metadata_"]) > MOST_PAIRS:
                detail = f"a job has at most {MOST_PAIRS} pairs of metadata"
                raise ServiceError("validation-error", detail, pointer="#/metadata")
            changed = {name: value for name, value in wanted.items() if getattr(job, name) != value}
            if "priority" in changed and job.status not in ACTIVE:
                raise ConflictError("the job has ended, its priority means nothing any more")
            if changed:
                jobs.edit(job_id, changed)
