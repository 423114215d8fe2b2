"""The lists of jobs and of data sets, and the page of one job that follows it to its end."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse

from app.api import deps, pagination, serializers
from app.errors import NotFoundError
from app.services.access.keys import Caller
from app.services.datasets.service import DatasetService
from app.services.jobs.service import Filters
from app.status import ACTIVE, DatasetStatus, JobStatus, Sort
from app.ui.auth import Visitor
from app.ui.job_page import EVENTS, JobPage, WantedPicks
from app.ui.labels import METHODS
from app.ui.pages import HEADERS, page
from app.ui.plots import side_by_side

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 20
ORDERS: dict[str, Sort] = {"oldest": "oldest", "name": "name"}
"""Orders of the list of jobs beside that of the newest first."""
MOST_JOBS = 100
"""Jobs that one can be compared with."""
MOST_DATASETS = 100
"""Data sets that a list to choose from offers."""


@router.get("/")
def home(request: Request) -> Response:
    """The page is what a browser looks for here; a program finds nothing.

    Raises:
        NotFoundError: A program asked.
    """
    if "text/html" not in request.headers.get("accept", ""):
        raise NotFoundError("resource at this address")
    return RedirectResponse("/ui", 303)


@router.get("/ui")
def list_jobs(
    request: Request,
    visitor: Visitor,
    services: deps.ServicesDep,
    status: Annotated[str, Query(max_length=20)] = "",
    dataset_id: Annotated[str, Query(max_length=40)] = "",
    q: Annotated[str, Query(max_length=200)] = "",
    method: Annotated[str, Query(max_length=40)] = "",
    sort: Annotated[str, Query(max_length=10)] = "",
    after: deps.After = None,
) -> Response:
    """Jobs, newest first; those of one state, on one data set, by one method, with a text in the name."""
    chosen = status if status in set(JobStatus) else None
    given = {"dataset_id": dataset_id, "q": q, "method": method, "sort": sort if sort in ORDERS else ""}
    wanted, before = pagination.listed(
        Filters(
            status=chosen,
            dataset_id=dataset_id or None,
            text=q or None,
            method=method or None,
            sort=ORDERS.get(sort, "newest"),
        ),
        after,
        "job",
    )
    views = services.jobs.page(visitor.project_id, wanted, before=before, limit=PAGE_SIZE + 1)
    shown = [serializers.job_read(request, view) for view in views[:PAGE_SIZE]]
    names = _names(visitor, services.datasets, {job.dataset_id for job in shown} | ({dataset_id} - {""}))
    return page(
        "jobs.html",
        visitor=visitor,
        jobs=shown,
        names=names,
        status=chosen,
        statuses=[word.value for word in JobStatus],
        dataset_id=dataset_id,
        given=given,
        methods=METHODS,
        orders=ORDERS,
        narrowed=any(given.values()),
        offered=_offered(visitor, services.datasets, dataset_id, names),
        address=_address,
        after=after,
        next_cursor=pagination.encode_cursor(pagination.list_place(wanted, shown[-1].id, shown[-1].name))
        if len(views) > PAGE_SIZE
        else None,
        live=any(job.status in ACTIVE for job in shown),
    )


def _address(**filters: str | None) -> str:
    """The list of jobs, narrowed down by what is given."""
    given = urlencode({name: value for name, value in filters.items() if value})
    return f"/ui?{given}" if given else "/ui"


def _offered(visitor: Caller, datasets: DatasetService, chosen: str, names: dict[str, str]) -> list[tuple[str, str]]:
    """Data sets that jobs can be looked for by, as id and name: the latest, and the one that is looked for now."""
    if not visitor.may("datasets:read"):
        return [(chosen, chosen)] if chosen else []
    views = datasets.page(visitor.project_id, Filters(), before=None, limit=MOST_DATASETS)
    offered = {view.dataset.id: view.dataset.name or view.dataset.id for view in views}
    if chosen and chosen not in offered:
        # An older one, or one that was deleted while its jobs were kept.
        offered[chosen] = names.get(chosen, chosen)
    return list(offered.items())


@router.get("/ui/datasets")
def list_datasets(
    request: Request,
    visitor: Visitor,
    services: deps.ServicesDep,
    q: Annotated[str, Query(max_length=200)] = "",
    after: deps.After = None,
) -> Response:
    """Data sets, newest first, each with a way to the form of a job on it."""
    before = pagination.id_cursor(after, "ds")
    views = services.datasets.page(visitor.project_id, Filters(text=q or None), before=before, limit=PAGE_SIZE + 1)
    shown = [serializers.dataset_read(request, view) for view in views[:PAGE_SIZE]]
    return page(
        "datasets.html",
        visitor=visitor,
        datasets=shown,
        q=q,
        jobs=services.datasets.jobs_on(visitor.project_id, [dataset.id for dataset in shown]),
        selects=visitor.may("jobs:write"),
        after=after,
        next_cursor=pagination.encode_cursor(shown[-1].id) if len(views) > PAGE_SIZE else None,
        live=any(dataset.status == DatasetStatus.VALIDATING for dataset in shown),
    )


def _names(visitor: Caller, datasets: DatasetService, ids: set[str]) -> dict[str, str]:
    """Names of data sets, for whoever may read those."""
    return datasets.names(visitor.project_id, ids) if visitor.may("datasets:read") else {}


@router.get("/ui/jobs/{job_id}")
def show_job(job_id: str, visitor: Visitor, job_page: JobPage, wanted: WantedPicks) -> Response:
    """One job."""
    return page("job.html", **job_page.job(visitor, job_id, wanted))


@router.get("/ui/jobs/{job_id}/live")
def live_job(job_id: str, visitor: Visitor, job_page: JobPage) -> Response:
    """The part of a job's page that changes; it asks for itself again until the job has ended."""
    return page("job_live.html", is_update=True, **job_page.job(visitor, job_id))


@router.get("/ui/jobs/{job_id}/evaluations")
def live_evaluations(job_id: str, visitor: Visitor, job_page: JobPage) -> Response:
    """Whether the choice trains better, as far as that is known; asks for itself again until it is."""
    return page("evaluations.html", **job_page.evaluations(visitor, job_id))


@router.get("/ui/jobs/{job_id}/curves")
def curves(job_id: str, visitor: Visitor, job_page: JobPage) -> Response:
    """How gain, utility and conflict went from pick to pick."""
    return page("job_curves.html", visitor=visitor, job_id=job_id, **job_page.curves(visitor.project_id, job_id))


@router.get("/ui/jobs/{job_id}/history")
def history(job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """What happened to a job."""
    services.jobs.get(visitor.project_id, job_id)
    events = services.events.page(visitor.project_id, job_id=job_id, after=0, limit=EVENTS)
    return page("job_history.html", visitor=visitor, job_id=job_id, events=events)


@router.get("/ui/jobs/{job_id}/logs")
def logs(job_id: str, visitor: Visitor, services: deps.ServicesDep, after: deps.After = None) -> Response:
    """What workers did for a job."""
    place = pagination.moment_cursor(after, "log")
    lines = services.job_logs.page(visitor.project_id, job_id, after=place, limit=EVENTS + 1)
    more = len(lines) > EVENTS
    last = (
        pagination.encode_cursor(pagination.moment(lines[EVENTS - 1].created_at, lines[EVENTS - 1].id))
        if more
        else None
    )
    return page("job_logs.html", visitor=visitor, job_id=job_id, lines=lines[:EVENTS], after=after, next_cursor=last)


@router.get("/ui/jobs/{job_id}/compare")
def compare(
    request: Request,
    job_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    other: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """What a job selected beside what another did; without another the form that asks for one."""
    project = visitor.project_id
    job = serializers.job_read(request, services.jobs.get(project, job_id))
    wanted = Filters(dataset_id=job.dataset_id, status=JobStatus.SUCCEEDED)
    offered = [view.job for view in services.jobs.page(project, wanted, before=None, limit=MOST_JOBS)]
    values: dict[str, Any] = {"job": job, "other": other, "offered": [each for each in offered if each.id != job_id]}
    if other:
        shared, views = services.job_pages.shared(project, job_id, other)
        both = [serializers.job_read(request, view) for view in views]
        values |= {"both": both, "mixes": side_by_side(*((each.result or {}) for each in both)), "shared": shared}
    return page("compare.html", visitor=visitor, **values)


@router.get("/ui/jobs/{job_id}/plots")
def plot_data(job_id: str, visitor: Visitor, job_page: JobPage) -> Response:
    """The series of the plots, for the script that draws them."""
    series = job_page.curves(visitor.project_id, job_id)["plots"]
    return JSONResponse({plot.name: plot.data for plot in series}, headers=HEADERS)


@router.get("/ui/jobs/{job_id}/files/{name}")
def get_file(job_id: str, name: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """A file of the result, saved and never shown: it holds other people's text."""
    file = services.results.file(visitor.project_id, job_id, name)
    return FileResponse(file.path, media_type=file.media_type, headers=HEADERS, filename=file.name)
