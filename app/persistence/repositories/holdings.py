"""How much a project holds, in one query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.persistence.tables import Dataset, Evaluation, Job, PartUpload
from app.persistence.types import clock
from app.status import EvaluationStatus, JobStatus, UploadStatus

Holding = Literal["announced_bytes", "datasets", "queued_jobs", "queued_evaluations"]


def lock_holdings(session: Session, project_id: str) -> None:
    """Let nobody else add to what a project holds before this transaction ends: two that count at once see one number.

    Not by the project's row, which workers lock after others. SQLite writes one at a time anyway.

    Args:
        session: A transaction that writes.
        project_id: The project.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"holdings {project_id}", 0))))


def holdings(session: Session, project_id: str, wanted: Iterable[Holding]) -> dict[Holding, int]:
    """What a project has at this moment.

    Args:
        session: An open session.
        project_id: The project.
        wanted: Bytes of files that are being sent in parts, those that have not arrived included; data sets that are
            not deleted; jobs and evaluations that wait.
    """
    queries: dict[Holding, Select[Any]] = {
        "announced_bytes": select(func.coalesce(func.sum(PartUpload.bytes), 0)).where(
            PartUpload.project_id == project_id,
            PartUpload.status == UploadStatus.OPEN,
            PartUpload.expires_at > clock(),
        ),
        "datasets": select(func.count()).where(Dataset.project_id == project_id, Dataset.deleted_at.is_(None)),
        "queued_jobs": select(func.count()).where(Job.project_id == project_id, Job.status == JobStatus.QUEUED),
        "queued_evaluations": select(func.count()).where(
            Evaluation.project_id == project_id, Evaluation.status == EvaluationStatus.QUEUED
        ),
    }
    names = list(wanted)
    counted = session.execute(select(*(queries[name].scalar_subquery() for name in names))).one()
    return {name: int(count) for name, count in zip(names, counted, strict=True)}
