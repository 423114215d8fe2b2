"""``/v1/jobs``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api import deps, pagination, serializers
from app.api.long_poll import Wait, until_changed
from app.api.middleware import StrictRoute
from app.api.openapi import CONDITIONAL
from app.api.pattern_messages import id_pattern
from app.api.schemas.fields import Page
from app.api.schemas.jobs import ExplainedRowRead, JobCreate, JobRead, JobUpdate, SampleRead
from app.api.schemas.logs import LogLineRead
from app.services.jobs.request import JobRequest
from app.services.jobs.retries import retry
from app.services.jobs.service import JobView
from app.status import ACTIVE, JobStatus, LogLevel
from spice_select.config import Method, digest_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)


def _accepted(request: Request, view: JobView, headers: dict[str, str]) -> Response:
    base = {"Location": f"/v1/jobs/{view.job.id}", "Retry-After": str(serializers.POLL_SECONDS)}
    return serializers.answer(serializers.job_read(request, view), 202, {**base, **headers})


def job_request(body: JobCreate) -> JobRequest:
    """The body of a request, as the service takes it."""
    return JobRequest(
        dataset_id=body.dataset_id,
        settings=body.run_config,
        proxy=body.proxy,
        name=body.name,
        metadata=body.metadata,
        deadline_seconds=body.deadline_seconds,
        priority=body.priority,
        base_pointer="#/given_job" if body.extends_job_id is None else "#/extends_job_id",
        parent=None if body.parent is None else body.parent.model_dump(mode="json", exclude_none=True),
    )


def request_digest(body: JobCreate) -> str:
    """What repeated requests are compared by."""
    return digest_of(body.model_dump(mode="json", exclude_unset=True))


@router.post("", status_code=202, response_model=JobRead)
def create_job(
    request: Request, body: JobCreate, project: deps.Project, services: deps.ServicesDep, key: deps.KeyDep
) -> Response:
    """Queue a job."""
    asked = replace(job_request(body), traceparent=request.scope.get("spice.traceparent"))
    view, replayed = services.jobs.create(project, asked, key=key, body=request_digest(body))
    return _accepted(request, view, {"Idempotency-Replayed": "true"} if replayed else {})


@router.get("")
def list_jobs(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    filters: deps.FiltersDep,
    status: Annotated[JobStatus | None, Query()] = None,
    dataset_id: deps.OfDataset = None,
    method: Annotated[Method | None, Query(description="Only by this method.")] = None,
    target: Annotated[
        str | None, Query(max_length=100, description="Only for this target: its name, or its data set's id.")
    ] = None,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[JobRead]:
    """Jobs, newest first unless ``sort`` says otherwise."""
    filters, before = pagination.listed(filters, after, "job")
    wanted = replace(filters, status=status, dataset_id=dataset_id, method=method, target=target)
    views = services.jobs.page(project, wanted, before=before, limit=limit + 1)
    show = partial(serializers.job_read, request)
    return serializers.page(
        request, response, views, limit, show, lambda view: pagination.list_place(filters, view.job.id, view.job.name)
    )


@router.get("/{job_id}", response_model=JobRead, responses=CONDITIONAL)
async def get_job(
    request: Request,
    response: Response,
    job_id: deps.JobId,
    project: deps.Project,
    services: deps.ServicesDep,
    wait: Wait = 0,
) -> Response:
    """One job; ``wait`` holds the answer until its status or phase changes."""

    def mark(view: JobView) -> object:
        return (view.job.status, view.phase) if view.job.status in ACTIVE else None

    view = await until_changed(request, partial(services.jobs.get, project, job_id), mark, wait)
    settled = view.job.status not in ACTIVE
    if serializers.mark_state(request, response, serializers.job_version(view), settled=settled):
        return Response(status_code=304, headers=dict(response.headers))
    return serializers.answer(serializers.job_read(request, view), 200, response.headers)


@router.patch("/{job_id}", response_model=JobRead)
def update_job(
    request: Request,
    response: Response,
    job_id: deps.JobId,
    body: JobUpdate,
    project: deps.Project,
    services: deps.ServicesDep,
    expected: deps.MatchDep,
) -> Response:
    """Change name, metadata or priority; nothing of what the job computes."""
    services.jobs.edit(project, job_id, body.values(), body.pairs(), expected)
    view = services.jobs.get(project, job_id)
    serializers.mark_state(request, response, serializers.job_version(view), settled=view.job.status not in ACTIVE)
    return serializers.answer(serializers.job_read(request, view), 200, response.headers)


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: deps.JobId, project: deps.Project, services: deps.ServicesDep, expected: deps.MatchDep) -> None:
    """Take a job that has ended away, with its ranking and its files; its gradients and its history stay."""
    services.jobs.delete(project, job_id, expected)


@router.post("/{job_id}/cancel", status_code=202, response_model=JobRead)
def cancel_job(
    request: Request, job_id: deps.JobId, project: deps.Project, services: deps.ServicesDep, expected: deps.MatchDep
) -> Response:
    """Stop a job; what it has chosen so far is kept."""
    return _accepted(request, services.jobs.cancel(project, job_id, expected), {})


@router.post("/{job_id}/retry", status_code=202, response_model=JobRead)
def retry_job(
    request: Request, job_id: deps.JobId, project: deps.Project, services: deps.ServicesDep, key: deps.KeyDep
) -> Response:
    """Queue a job that failed, was cancelled or expired again, as another job; what is measured is reused."""
    trace = request.scope.get("spice.traceparent")
    view, replayed = retry(services.jobs, project, job_id, key=key, traceparent=trace)
    return _accepted(request, view, {"Idempotency-Replayed": "true"} if replayed else {})


@router.get("/{job_id}/logs")
def list_logs(
    request: Request,
    response: Response,
    job_id: deps.JobId,
    project: deps.Project,
    services: deps.ServicesDep,
    level: Annotated[LogLevel, Query(description="Only of this level or a worse one.")] = "info",
    unit_id: Annotated[str | None, Query(pattern=id_pattern("unit"), description="Only of this unit.")] = None,
    limit: deps.Limit = 100,
    after: deps.After = None,
) -> Page[LogLineRead]:
    """What workers did for the job, oldest first; of gradients that it shares with other jobs as well."""
    place = pagination.moment_cursor(after, "log")
    lines = services.job_logs.page(project, job_id, after=place, limit=limit + 1, level=level, unit_id=unit_id)
    return serializers.page(
        request,
        response,
        lines,
        limit,
        LogLineRead.model_validate,
        lambda line: pagination.moment(line.created_at, line.id),
    )


@router.get("/{job_id}/selection")
def list_selection(
    request: Request,
    response: Response,
    job_id: deps.JobId,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 100,
    after: deps.After = None,
) -> Page[SampleRead]:
    """The ranking: what was chosen, in order, with the evidence."""
    rows = services.reader.ranking(project, job_id, after=pagination.number_cursor(after, 0), limit=limit + 1)
    return serializers.page(request, response, rows, limit, SampleRead.model_validate, lambda sample: sample.rank)


@router.get("/{job_id}/rows/{row}")
def get_row(
    job_id: deps.JobId, row: deps.RowNumber, project: deps.Project, services: deps.ServicesDep
) -> ExplainedRowRead:
    """Why this row was selected, or not, with the texts of what it is near to."""
    return ExplainedRowRead.model_validate(services.row_evidence.explain(project, job_id, row).model_dump())
