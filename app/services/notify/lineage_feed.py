"""Use cases of telling a lineage service: what is to be told next, and how it went."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from app.errors import NotFoundError
from app.persistence.repositories import Datasets, Events, Jobs, LineageCursors
from app.persistence.session import Database
from app.persistence.tables import Event, Job
from app.persistence.types import clock
from app.services.notify.lineage import ENDS, Run, run_event, run_events

HOLD_SECONDS = 300.0
"""How long a batch may take before another sender begins it again; well above what its timeouts add up to."""
BATCH_EVENTS = 20
BACKOFF_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0)
MAX_PROJECTS = 50


@dataclass(frozen=True)
class Told:
    """One event of the history and what is to be told of it.

    Attributes:
        event_id: Its number.
        run_events: Nothing where the event concerns no run.
    """

    event_id: int
    run_events: list[dict[str, Any]]


@dataclass(frozen=True)
class Batch:
    """The next events of a project, held by one sender.

    Attributes:
        project_id: The project.
        holder: Name of the hold.
        failures: Failures in a row before this one.
        events: In order.
    """

    project_id: str
    holder: str
    failures: int
    events: list[Told]


class LineageFeed:
    """What has happened, in the order in which it is to be told; at least once.

    Args:
        database: Where the records are.
        namespace: Of jobs and data sets.
    """

    def __init__(self, database: Database, namespace: str) -> None:
        self.database = database
        self.namespace = namespace

    def events(self, project_id: str, job_id: str) -> list[dict[str, Any]]:
        """Every run event of a job so far.

        Raises:
            NotFoundError: There is no such job in the project.
        """
        with self.database.read() as session:
            job = Jobs(session).get(project_id, job_id)
            if job is None:
                raise NotFoundError(f"job {job_id}")
            return run_events(_run(session, job), self.namespace)

    def next(self) -> Batch | None:
        """Hold the next batch of a project that has one; None when everything is told, or held by others."""
        with self.database.read() as session:
            waiting = LineageCursors(session).waiting(MAX_PROJECTS)
        for project_id in waiting:
            holder = uuid.uuid4().hex
            with self.database.write() as session:
                cursor = LineageCursors(session).take(project_id, holder, HOLD_SECONDS)
                if cursor is None:
                    continue
                after, failures = cursor.event_id, cursor.failures
            with self.database.read() as session:
                page = Events(session).page(project_id, after=after, limit=BATCH_EVENTS)
                told = [Told(event.id, self._of(session, event)) for event in page]
            return Batch(project_id, holder, failures, told)
        return None

    def settle(self, batch: Batch, last_event_id: int | None, error: str | None) -> bool:
        """Let go of a batch.

        Args:
            batch: The batch.
            last_event_id: The last event that was told; None when not one was.
            error: Why it stopped there; the rest is told again after a while.

        Returns:
            False when another sender had taken the batch over: what was told is told again then.
        """
        values: dict[str, Any] = {"failures": 0, "not_before": None, "error": None}
        if error is not None:
            failures = batch.failures + 1 if last_event_id is None else 1
            wait = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
            values = {"failures": failures, "not_before": clock(wait), "error": error[:500]}
        if last_event_id is not None:
            values["event_id"] = last_event_id
        with self.database.write() as session:
            return LineageCursors(session).settle(batch.project_id, batch.holder, values)

    def _of(self, session: Any, event: Event) -> list[dict[str, Any]]:
        kind = event.type.removeprefix("job.")
        if event.job_id is None or (kind != "running" and kind not in ENDS):
            return []
        # Of one that was deleted before it was told, what is left of it is told.
        run = _run(session, job := Jobs(session).get_even_deleted(event.project_id, event.job_id))
        if kind == "running":
            return [run_event(run, self.namespace, "START")]
        # A job that no worker ever took has no event of its own for its start.
        return [run_event(run, self.namespace, ENDS[kind])] if job.started_at else run_events(run, self.namespace)


def _run(session: Any, job: Job) -> Run:
    datasets = Datasets(session)
    target = None if job.target_dataset_id is None else datasets.get_even_deleted(job.target_dataset_id)
    return Run(job, datasets.get_even_deleted(job.dataset_id), target, Jobs(session).files(job.id))
