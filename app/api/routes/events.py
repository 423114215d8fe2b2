"""``/v1/events`` and ``/v1/jobs/{id}/events``: one log, as pages of JSON or as Server-Sent Events."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.api import deps, pagination, serializers, sse
from app.api.middleware import StrictRoute
from app.api.schemas.events import EventRead
from app.api.schemas.fields import Page
from app.status import EventType

router = APIRouter(prefix="/v1", tags=["events"], route_class=StrictRoute)

TWO_FACES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or with `Accept: text/event-stream` a stream that goes on as things happen.",
        "content": {sse.MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    204: {"description": "Nothing will follow: the job has ended and the stream was read to its end."},
}
Types = Annotated[list[EventType] | None, Query(alias="type", max_length=20, description="Only events of these types.")]


async def _answer(
    request: Request,
    response: Response,
    project: str,
    hub: sse.EventHub,
    *,
    job_id: str | None,
    dataset_id: str | None,
    types: Sequence[EventType],
    limit: int,
    after: str | None,
) -> Any:
    start = pagination.number_cursor(after, -1)
    if sse.wants_stream(request):
        return await sse.stream(
            request,
            hub,
            sse.Listener(project, job_id, dataset_id),
            after=None if after is None else start,
            types=types,
        )
    response.headers["Vary"] = "Accept"
    if job_id is not None:
        await run_in_threadpool(hub.service.job_has_ended, project, job_id)
    rows = await run_in_threadpool(
        partial(
            hub.service.page,
            project,
            after=start,
            limit=limit + 1,
            job_id=job_id,
            dataset_id=dataset_id,
            types=types,
        )
    )
    return serializers.page(request, response, rows, limit, EventRead.model_validate, lambda event: event.id)


@router.get("/events", response_model=Page[EventRead], responses=TWO_FACES)
async def list_events(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    types: Types = None,
    dataset_id: deps.OfDataset = None,
    limit: deps.Limit = 100,
    after: deps.After = None,
) -> Any:
    """What happened in the project, oldest first; as a stream, what happens from now on."""
    return await _answer(
        request,
        response,
        project,
        services.hub,
        job_id=None,
        dataset_id=dataset_id,
        types=types or [],
        limit=limit,
        after=after,
    )


@router.get("/jobs/{job_id}/events", response_model=Page[EventRead], responses=TWO_FACES)
async def list_job_events(
    request: Request,
    response: Response,
    job_id: deps.JobId,
    project: deps.Project,
    services: deps.ServicesDep,
    types: Types = None,
    limit: deps.Limit = 100,
    after: deps.After = None,
) -> Any:
    """History of the job, oldest first; a stream ends with the job."""
    return await _answer(
        request,
        response,
        project,
        services.hub,
        job_id=job_id,
        dataset_id=None,
        types=types or [],
        limit=limit,
        after=after,
    )
