"""Schedules: a job that is made at set times on the newest version of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from app.errors import ConflictError, NotFoundError, ServiceError
from app.ids import new_id
from app.logs import get_logger
from app.persistence.repositories import DeletedIds, Events, Jobs, Schedules
from app.persistence.repositories.rows import now
from app.persistence.tables import Dataset, Schedule
from app.services.compat import understood
from app.services.idempotency import replayed
from app.services.if_match import require_version
from app.services.jobs.request import JobRequest
from app.services.jobs.service import MOST_PAIRS, JobService
from app.status import ACTIVE, JobStatus
from spice_select.config import RunConfig, digest_of
from spice_select.errors import SpiceError

MOST_OF_PROJECT = 50
DUE_AT_ONCE = 20
OPERATION = "POST /v1/schedules"
FIRE = "schedule"
"""What the keys of jobs are for that schedules make."""


def next_time(cron: str, timezone: str, after: datetime) -> datetime:
    """When a cron expression is next due.

    Args:
        cron: Five fields, as cron(8) reads them: minute, hour, day of month, month, day of week.
        timezone: Name of the time zone in which they are meant, such as ``Europe/Berlin``.
        after: The moment that it comes after.

    Raises:
        ServiceError: The expression or the zone cannot be read, or the expression is never due.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        detail = f"there is no time zone {timezone!r}"
        raise ServiceError("validation-error", detail, pointer="#/timezone") from error
    try:
        minute, hour, day, month, weekday = cron.split()
        cron = " ".join((minute, hour, day, month, weekday))
        return next(CronSim(cron, after.astimezone(zone)))
    except (CronSimError, StopIteration, ValueError) as error:
        detail = f"{cron!r} is not five fields of cron that are ever due"
        raise ServiceError("validation-error", detail, pointer="#/cron") from error


class ScheduleService:
    """Schedules of one service.

    Args:
        jobs: Makes the jobs.
    """

    def __init__(self, jobs: JobService) -> None:
        self.jobs = jobs
        self.database = jobs.database

    def create(
        self,
        project_id: str,
        request: JobRequest,
        *,
        name: str,
        cron: str,
        timezone: str,
        extends_previous: bool,
        paused: bool,
        key: str | None,
        body: str,
    ) -> tuple[Schedule, bool]:
        """Make a schedule; a job that could not be made now is refused.

        Args:
            project_id: Owner.
            request: The job; its data set is the first version of the pool.
            name: For people.
            cron: When.
            timezone: Where that time is meant.
            extends_previous: Whether each job adds to what the one before selected.
            paused: Whether it waits to be resumed.
            key: Idempotency-Key.
            body: Digest of the request.

        Returns:
            The schedule, and whether an earlier call with this key had made it.

        Raises:
            ConflictError: The project has as many as it may.
            NotFoundError: The earlier call's schedule is gone.
            ServiceError: Something of it cannot be used.
        """
        if len(request.metadata) >= MOST_PAIRS:
            detail = (
                f"the job of a schedule has at most {MOST_PAIRS - 1} pairs of metadata: one more names the schedule"
            )
            raise ServiceError("validation-error", detail, pointer="#/job/metadata")
        try:
            self.jobs.estimate(project_id, request)
        except (ServiceError, SpiceError) as refused:
            _raise_within_job(refused)
        config = request.settings(self.jobs.proxies.resolve(request.proxy).config)
        schedule_id = new_id("sch")
        with self.database.write() as session:
            known = replayed(session, project_id, OPERATION, key, body, schedule_id)
            schedules = Schedules(session)
            if known is not None:
                found = schedules.get(project_id, known)
                if found is None:
                    raise NotFoundError(f"schedule {known}: it was made with this Idempotency-Key and deleted")
                return found, True
            if schedules.count(project_id) >= MOST_OF_PROJECT:
                raise ConflictError(f"a project has at most {MOST_OF_PROJECT} schedules")
            moment = now(session)
            made = Schedule(
                id=schedule_id,
                project_id=project_id,
                name=name,
                cron=cron,
                timezone=timezone,
                paused=paused,
                dataset_id=request.dataset_id,
                extends_previous=extends_previous,
                config=config.model_dump(mode="json"),
                metadata_=request.metadata,
                priority=request.priority,
                deadline_seconds=request.deadline_seconds,
                next_fire_at=next_time(cron, timezone, moment),
                created_at=moment,
            )
            schedules.add(made)
        return made, False

    def get(self, project_id: str, schedule_id: str) -> Schedule:
        """One schedule."""
        with self.database.read() as session:
            return _find(Schedules(session), project_id, schedule_id)

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[Schedule]:
        """Schedules, newest first."""
        with self.database.read() as session:
            return Schedules(session).page(project_id, before=before, limit=limit)

    def change(
        self, project_id: str, schedule_id: str, changes: Mapping[str, Any], expected: frozenset[int] | None
    ) -> Schedule:
        """Change name, times, whether it is paused and whether jobs build on each other.

        One that is resumed, or gets other times, is next due from now on: what it missed meanwhile is not made up for.
        """
        with self.database.write() as session:
            schedule = _find(Schedules(session), project_id, schedule_id, lock=True)
            require_version(schedule.version, expected)
            for field, value in changes.items():
                setattr(schedule, field, value)
            if changes.keys() & {"cron", "timezone", "paused"}:
                schedule.next_fire_at = next_time(schedule.cron, schedule.timezone, now(session))
            schedule.version += 1
        return schedule

    def delete(self, project_id: str, schedule_id: str, expected: frozenset[int] | None) -> None:
        """Take a schedule away; its jobs stay. Again, it changes nothing.

        Raises:
            NotFoundError: There is none of this id in the project.
        """
        with self.database.write() as session:
            schedules, removals = Schedules(session), DeletedIds(session)
            schedule = schedules.get(project_id, schedule_id, lock=True)
            if schedule is None:
                if removals.has(project_id, schedule_id):
                    return
                raise NotFoundError(f"schedule {schedule_id[:100]}")
            require_version(schedule.version, expected)
            schedules.remove(schedule_id)
            removals.note(project_id, schedule_id)

    def fire_due(self) -> int:
        """Make the jobs whose time has come; how many.

        Any number of processes may do so: the key of the job is the schedule and its time, so that two make one job,
        and a process that dies in between is made up for. After a downtime a schedule is due once, however often it was
        missed.
        """
        with self.database.read() as session:
            due = Schedules(session).due(DUE_AT_ONCE)
        return sum(self._fire(schedule) for schedule in due)

    def _fire(self, schedule: Schedule) -> bool:
        with self.database.read() as session:
            moment = now(session)
            dataset = Schedules(session).newest_version(schedule.project_id, schedule.dataset_id)
            last = (
                None if schedule.last_job_id is None else Jobs(session).get(schedule.project_id, schedule.last_job_id)
            )
            succeeded = last is not None and last.status == JobStatus.SUCCEEDED
            base_id = schedule.last_job_id if succeeded else schedule.base_job_id
            base = None if base_id is None else Jobs(session).get(schedule.project_id, base_id)
        values: dict[str, Any] = {"base_job_id": None if base is None else base.id, "last_detail": None}
        data: dict[str, Any] = {"schedule_id": schedule.id}
        outcome = "skipped"
        if dataset is None:
            outcome, values["last_detail"] = "failed", "no version of the data set is ready"
        elif last is not None and last.status in ACTIVE:
            values["last_detail"] = f"{last.id} of the time before is {last.status}"
        elif last is not None and succeeded and last.dataset_id == dataset.id:
            values["last_detail"] = "the data set has not changed"
        else:
            try:
                job_id = self._make(
                    schedule, dataset, base.id if base is not None and schedule.extends_previous else None
                )
                outcome, values["last_job_id"] = "fired", job_id
            except (ServiceError, SpiceError) as refused:
                outcome, values["last_detail"] = "failed", refused.detail
                data["code"] = refused.code
        if values["last_detail"] is not None:
            data["detail"] = values["last_detail"]
        values |= {"last_outcome": outcome, "next_fire_at": next_time(schedule.cron, schedule.timezone, moment)}
        with self.database.write() as session:
            if not Schedules(session).advance(schedule, values):
                return False
            about = {"job_id": values.get("last_job_id"), "dataset_id": None if dataset is None else dataset.id}
            Events(session).append(schedule.project_id, f"schedule.{outcome}", data=data, **about)
        get_logger().info("schedule_due", schedule=schedule.id, outcome=outcome, detail=values["last_detail"])
        return outcome == "fired"

    def _make(self, schedule: Schedule, dataset: Dataset, base_id: str | None) -> str:
        config = understood(RunConfig, schedule.config, f"schedule {schedule.id}")
        if base_id is not None:
            conditions = config.conditions.model_copy(update={"given_job": base_id})
            config = config.model_copy(update={"conditions": conditions})
        request = JobRequest(
            dataset_id=dataset.id,
            settings=lambda proxy: config.model_copy(update={"proxy": proxy}),
            proxy=config.proxy,
            name=schedule.name,
            metadata={**schedule.metadata_, "schedule_id": schedule.id},
            deadline_seconds=schedule.deadline_seconds,
            priority=schedule.priority,
        )
        key = f"{schedule.id}-{schedule.next_fire_at.isoformat()}"
        view, _ = self.jobs.create(schedule.project_id, request, key=key, body=digest_of({"key": key}), operation=FIRE)
        return view.job.id


def _raise_within_job(refused: ServiceError | SpiceError) -> NoReturn:
    """Refuse the job of a schedule, pointing at where it is in the request.

    Raises:
        ServiceError: Always.
    """
    errors = [
        {**finding, "pointer": f"#/job{finding['pointer'][1:]}"} if finding.get("pointer") else finding
        for finding in refused.errors
    ]
    headers = refused.headers if isinstance(refused, ServiceError) else None
    raise ServiceError(refused.code, refused.detail, errors=errors, headers=headers) from refused


def _find(schedules: Schedules, project_id: str, schedule_id: str, *, lock: bool = False) -> Schedule:
    schedule = schedules.get(project_id, schedule_id, lock=lock)
    if schedule is None:
        raise NotFoundError(f"schedule {schedule_id[:100]}")
    return schedule
