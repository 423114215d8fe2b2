"""``/v1/evaluations``: whether what a job chose trains better than rows drawn at random."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api import deps, pagination, serializers
from app.api.long_poll import Wait, until_changed
from app.api.middleware import StrictRoute
from app.api.openapi import CONDITIONAL
from app.api.schemas.evaluations import EvaluationCreate, EvaluationRead
from app.api.schemas.events import EventRead
from app.api.schemas.fields import Page
from app.services.evaluations.service import EvaluationRequest, EvaluationView
from app.status import EVALUATING, EvaluationStatus
from spice_select.config import digest_of

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], route_class=StrictRoute)


def _accepted(request: Request, view: EvaluationView, headers: dict[str, str]) -> Response:
    base = {"Location": f"/v1/evaluations/{view.evaluation.id}", "Retry-After": str(serializers.POLL_SECONDS)}
    return JSONResponse(serializers.evaluation_read(request, view).model_dump(mode="json"), 202, {**base, **headers})


def evaluation_request(body: EvaluationCreate) -> EvaluationRequest:
    """What the service is asked for by a body."""
    return EvaluationRequest(
        job_id=body.job_id,
        config=body.settings(),
        holdout_dataset_id=body.holdout_dataset_id,
        model=body.model,
        group=body.group,
        max_length=body.max_length,
        name=body.name,
        metadata=body.metadata,
    )


def request_digest(body: EvaluationCreate) -> str:
    """Digest of a body, to compare repeated calls by."""
    return digest_of(body.model_dump(mode="json", exclude_unset=True))


@router.post("", status_code=202, response_model=EvaluationRead)
def create_evaluation(
    request: Request,
    body: EvaluationCreate,
    project: deps.Project,
    services: deps.ServicesDep,
    key: deps.KeyDep,
) -> Response:
    """Train on what a job chose and on controls of equal size from the same start, and compare on rows nobody saw."""
    view, again = services.evaluations.create(project, evaluation_request(body), key=key, body=request_digest(body))
    return _accepted(request, view, {"Idempotency-Replayed": "true"} if again else {})


@router.get("")
def list_evaluations(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    filters: deps.FiltersDep,
    status: Annotated[EvaluationStatus | None, Query()] = None,
    job_id: deps.OfJob = None,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[EvaluationRead]:
    """Evaluations, newest first unless ``sort`` says otherwise."""
    filters, before = pagination.listed(filters, after, "ev")
    wanted = replace(filters, status=status)
    views = services.evaluations.page(project, wanted, job_id=job_id, before=before, limit=limit + 1)
    show = partial(serializers.evaluation_read, request)
    return serializers.page(
        request,
        response,
        views,
        limit,
        show,
        lambda view: pagination.list_place(filters, view.evaluation.id, view.evaluation.name),
    )


@router.get("/{evaluation_id}", response_model=EvaluationRead, responses=CONDITIONAL)
async def get_evaluation(
    request: Request,
    response: Response,
    evaluation_id: deps.EvaluationId,
    project: deps.Project,
    services: deps.ServicesDep,
    wait: Wait = 0,
) -> Any:
    """One evaluation; ``wait`` holds the answer until its status or phase changes."""

    def mark(view: EvaluationView) -> object:
        return (view.evaluation.status, view.phase) if view.evaluation.status in EVALUATING else None

    view = await until_changed(request, partial(services.evaluations.get, project, evaluation_id), mark, wait)
    settled = view.evaluation.status not in EVALUATING
    if serializers.mark_state(request, response, _version(view), settled=settled):
        return Response(status_code=304, headers=dict(response.headers))
    return serializers.evaluation_read(request, view)


@router.post("/{evaluation_id}/cancel", status_code=202, response_model=EvaluationRead)
def cancel_evaluation(
    request: Request,
    evaluation_id: deps.EvaluationId,
    project: deps.Project,
    services: deps.ServicesDep,
    expected: deps.MatchDep,
) -> Response:
    """Stop an evaluation; half the trainings support no verdict, so nothing of it is kept."""
    return _accepted(request, services.evaluations.cancel(project, evaluation_id, expected), {})


@router.get("/{evaluation_id}/events")
def list_evaluation_events(
    request: Request,
    response: Response,
    evaluation_id: deps.EvaluationId,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 100,
    after: deps.After = None,
) -> Page[EventRead]:
    """History of the evaluation, oldest first; as a stream it is part of the project's events."""
    services.evaluations.get(project, evaluation_id)
    start = pagination.number_cursor(after, -1)
    rows = services.events.page(project, after=start, limit=limit + 1, evaluation_id=evaluation_id)
    return serializers.page(request, response, rows, limit, EventRead.model_validate, lambda event: event.id)


def _version(view: EvaluationView) -> str:
    """Changes whenever the shown evaluation does."""
    progress = view.progress
    live = f"-{view.phase}-{progress.completed}-{progress.updated_at}" if progress else f"-{view.phase}"
    shown = live if view.evaluation.status in EVALUATING else ""
    return f"{view.evaluation.version}{shown}".replace('"', "").replace(" ", "T")
