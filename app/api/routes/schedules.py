"""``/v1/schedules``: jobs that are made at set times."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.api import deps, pagination, serializers
from app.api.middleware import StrictRoute
from app.api.openapi import CONDITIONAL
from app.api.routes.jobs import job_request
from app.api.schemas.fields import Page, as_shown
from app.api.schemas.schedules import ScheduleCreate, ScheduleRead, ScheduleUpdate
from app.persistence.tables import Schedule
from spice_select.config import RunConfig, digest_of

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], route_class=StrictRoute)


def _shown(schedule: Schedule) -> ScheduleRead:
    return serializers.shown(
        ScheduleRead,
        schedule,
        config=as_shown(RunConfig, schedule.config),
        metadata=schedule.metadata_,
        next_fire_at=None if schedule.paused else schedule.next_fire_at,
    )


@router.post("", status_code=201, response_model=ScheduleRead)
def create_schedule(
    body: ScheduleCreate, project: deps.Project, services: deps.ServicesDep, key: deps.KeyDep
) -> Response:
    """Make a job at set times, on the newest version of its data set; not when that has not changed."""
    given = body.model_dump(exclude={"job"})
    digest = digest_of(body.model_dump(mode="json", exclude_unset=True))
    schedule, replayed = services.schedules.create(project, job_request(body.job), **given, key=key, body=digest)
    headers = {"Location": f"/v1/schedules/{schedule.id}", "ETag": f'W/"{schedule.version}"'}
    return serializers.answer(
        _shown(schedule), 201, {**headers, **({"Idempotency-Replayed": "true"} if replayed else {})}
    )


@router.get("")
def list_schedules(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[ScheduleRead]:
    """Schedules, newest first."""
    rows = services.schedules.page(project, before=pagination.id_cursor(after, "sch"), limit=limit + 1)
    return serializers.page(request, response, rows, limit, _shown, lambda row: row.id)


@router.get("/{schedule_id}", response_model=ScheduleRead, responses=CONDITIONAL)
def get_schedule(
    request: Request,
    response: Response,
    schedule_id: deps.ScheduleId,
    project: deps.Project,
    services: deps.ServicesDep,
) -> Any:
    """One schedule, and how its last time went."""
    schedule = services.schedules.get(project, schedule_id)
    if serializers.mark_state(request, response, str(schedule.version), settled=True):
        return Response(status_code=304, headers=dict(response.headers))
    return _shown(schedule)


@router.patch("/{schedule_id}")
def update_schedule(
    request: Request,
    response: Response,
    schedule_id: deps.ScheduleId,
    body: ScheduleUpdate,
    project: deps.Project,
    services: deps.ServicesDep,
    expected: deps.MatchDep,
) -> ScheduleRead:
    """Pause, resume, or change name and times."""
    schedule = services.schedules.change(project, schedule_id, body.model_dump(exclude_unset=True), expected)
    serializers.mark_state(request, response, str(schedule.version), settled=True)
    return _shown(schedule)


@router.delete("/{schedule_id}", status_code=204)
def delete_schedule(
    schedule_id: deps.ScheduleId, project: deps.Project, services: deps.ServicesDep, expected: deps.MatchDep
) -> None:
    """Make no further job; those that were made stay."""
    services.schedules.delete(project, schedule_id, expected)
