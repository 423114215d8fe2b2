"""Queries on jobs, their rankings and files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.listing import ListFilter
from app.persistence.repositories.rows import affected, insert_all
from app.persistence.tables import File, Job, SelectedSample
from app.persistence.types import clock
from app.status import ACTIVE, JobStatus


class Jobs:
    """Jobs; every read on behalf of a client goes through the project."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, job: Job) -> None:
        """Insert a new job."""
        self.session.add(job)
        self.session.flush()

    def get(self, project_id: str, job_id: str) -> Job | None:
        """The job, unless it is another project's."""
        query = select(Job).where(Job.id == job_id, Job.project_id == project_id)
        return self.session.scalars(query).one_or_none()

    def stop_requested(self, job_id: str) -> str | None:
        """The outcome a worker is asked to stop for."""
        return self.session.scalars(select(Job.stop_requested).where(Job.id == job_id)).one()

    def lock(self, job_id: str) -> Job:
        """The job that a unit belongs to, locked until the transaction ends."""
        query = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
        return self.session.scalars(query).one()

    def page(self, project_id: str, wanted: ListFilter, *, before: str | None, limit: int) -> list[Job]:
        """Newest first, starting behind an id."""
        query = wanted.applied(select(Job).where(Job.project_id == project_id), Job)
        if before is not None:
            query = query.where(Job.id < before)
        return list(self.session.scalars(query.order_by(Job.id.desc()).limit(limit)))

    def ahead(self, job: Job) -> tuple[int, int]:
        """Queued jobs whose turn comes before this one's by priority and age: of all projects, of its own."""
        earlier = or_(Job.priority > job.priority, and_(Job.priority == job.priority, Job.id < job.id))
        own = func.count().filter(Job.project_id == job.project_id)
        query = select(func.count(), own).where(Job.status == JobStatus.QUEUED, earlier)
        everyone, mine = self.session.execute(query).one()
        return int(everyone), int(mine)

    def recent_seconds(self, most: int = 20) -> float | None:
        """Mean time from start to end of the jobs that succeeded last; None before the first."""
        query = select(Job.started_at, Job.finished_at).where(Job.status == JobStatus.SUCCEEDED)
        spans = [
            (end - start).total_seconds()
            for start, end in self.session.execute(query.order_by(Job.id.desc()).limit(most))
            if start is not None and end is not None
        ]
        return sum(spans) / len(spans) if spans else None

    def move(self, job_id: str, old: tuple[JobStatus, ...], new: JobStatus, **values: Any) -> bool:
        """Change the state if it is still one of ``old``; the one place that writes ``status``.

        Returns:
            Whether the move was made. A terminal job is never moved.
        """
        stamps: dict[str, Any] = {}
        if new is JobStatus.RUNNING:
            stamps["started_at"] = clock()
        elif new is JobStatus.CANCELLING:
            stamps["cancelling_at"] = clock()
        else:
            stamps["finished_at"] = clock()
        statement = (
            update(Job)
            .where(Job.id == job_id, Job.status.in_(old))
            .values(status=new, version=Job.version + 1, **stamps, **values)
        )
        return affected(self.session.execute(statement)) == 1

    def waiting_on(self, gradient_set_id: str, statuses: tuple[JobStatus, ...] = ACTIVE) -> list[Job]:
        """Jobs that have not ended and need this gradient set."""
        needs = or_(Job.gradient_set_id == gradient_set_id, Job.target_gradient_set_id == gradient_set_id)
        return list(self.session.scalars(select(Job).where(needs, Job.status.in_(statuses)).order_by(Job.id)))

    def past_deadline(self) -> list[str]:
        """Ids of jobs whose deadline has passed and that nobody has told yet."""
        query = select(Job.id).where(
            Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)),
            Job.deadline_at.is_not(None),
            Job.deadline_at < clock(),
            Job.stop_requested.is_(None),
        )
        return list(self.session.scalars(query))

    def request_stop(self, job_id: str, reason: str) -> None:
        """Ask the worker of the job to stop; the first reason stays."""
        statement = update(Job).where(Job.id == job_id, Job.stop_requested.is_(None)).values(stop_requested=reason)
        self.session.execute(statement)

    def add_ranking(self, job_id: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write the ranking."""
        insert_all(self.session, SelectedSample, ({"job_id": job_id, **row} for row in rows))

    def ranking(self, job_id: str, *, after: int, limit: int) -> list[SelectedSample]:
        """Picks behind a rank, in order."""
        query = select(SelectedSample).where(SelectedSample.job_id == job_id, SelectedSample.rank > after)
        return list(self.session.scalars(query.order_by(SelectedSample.rank).limit(limit)))

    def stretches(self, job_id: str, length: int) -> list[tuple[int, float, float, float, float]]:
        """Last rank, mean and total gain, mean and largest conflict of every ``length`` picks, in order."""
        row = SelectedSample
        query = (
            select(
                func.max(row.rank),
                func.avg(row.gain),
                func.sum(row.gain),
                func.avg(row.conflict),
                func.max(row.conflict),
            )
            .where(row.job_id == job_id)
            .group_by((row.rank - 1) // length)
            .order_by(func.max(row.rank))
        )
        return [
            (last, mean, total, conflict, worst) for last, mean, total, conflict, worst in self.session.execute(query)
        ]

    def chosen_rows(self, job_id: str) -> list[int]:
        """Rows of the source that the job chose, in order."""
        query = select(SelectedSample.source_row).where(SelectedSample.job_id == job_id)
        return list(self.session.scalars(query.order_by(SelectedSample.rank)))

    def add_files(self, job_id: str, project_id: str, files: Iterable[dict[str, Any]]) -> None:
        """Write down the files of the result."""
        rows = (
            {"job_id": job_id, "project_id": project_id, "position": position, **file}
            for position, file in enumerate(files)
        )
        insert_all(self.session, File, rows)

    def files(self, job_id: str) -> list[File]:
        """Files of the result, in the order they were written."""
        return list(self.session.scalars(select(File).where(File.job_id == job_id).order_by(File.position)))

    def file(self, project_id: str, job_id: str, name: str) -> File | None:
        """One file of the result."""
        query = select(File).where(File.job_id == job_id, File.project_id == project_id, File.name == name)
        return self.session.scalars(query).one_or_none()
