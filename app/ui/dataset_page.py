"""The page of a data set: what was read, what was not and why, what its rows are like, and the jobs on it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.api import deps, serializers
from app.services.jobs.service import Filters
from app.status import DatasetStatus
from app.ui.auth import SameOrigin, Visitor
from app.ui.pages import page
from app.ui.plots import length_shares, shares
from spice_select.records.conversation import shown

router = APIRouter(include_in_schema=False)

REJECTED = 20
"""Rows that cannot be used on a page of their table."""
ROWS = 20
"""Rows on a page of a search."""
MOST_SEARCHED = 20_000
"""Rows that one page of a search looks at."""
JOBS = 10
VERSIONS = 20


@router.get("/ui/datasets/{dataset_id}")
def show_dataset(
    request: Request,
    dataset_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
) -> Response:
    """One data set; ``after`` is the row that the shown rejected rows lie behind."""
    project = visitor.project_id
    view = services.datasets.get(project, dataset_id)
    rejected = services.datasets.rejected(project, dataset_id, after=after, limit=REJECTED + 1)
    jobs = []
    if visitor.may("jobs:read"):
        views = services.jobs.page(project, Filters(dataset_id=dataset_id), before=None, limit=JOBS)
        jobs = [serializers.job_read(request, job) for job in views]
    statistics = services.dataset_statistics.of(view.dataset) or {}
    groups = statistics.get("groups")
    return page(
        "dataset.html",
        visitor=visitor,
        dataset=serializers.dataset_read(request, view),
        live=view.dataset.status == DatasetStatus.VALIDATING,
        after=after,
        rejected=rejected[:REJECTED],
        next_rejected=rejected[REJECTED - 1].row if len(rejected) > REJECTED else None,
        jobs=jobs,
        versions=services.datasets.versions(view.dataset, VERSIONS),
        looked_at=statistics.get("rows", 0),
        lengths=length_shares({"tokens": statistics["characters"]}) if statistics else [],
        groups=(groups["column"], shares([(each["name"], each["pool"], 0) for each in groups["groups"]]))
        if groups
        else None,
    )


@router.get("/ui/datasets/{dataset_id}/rows")
def show_rows(
    dataset_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    words: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
) -> Response:
    """Rows of a data set, those with some words; ``after`` is the row that they lie behind."""
    dataset = services.datasets.get(visitor.project_id, dataset_id).dataset
    rows, following = services.datasets.search(
        visitor.project_id, dataset_id, words.strip(), after=after, limit=ROWS, most=MOST_SEARCHED
    )
    return page(
        "dataset_rows.html",
        visitor=visitor,
        dataset=dataset,
        words=words.strip(),
        after=after,
        rows=rows,
        following=following,
        address=f"/ui/datasets/{dataset_id}/rows?{urlencode({'words': words.strip()})}",
        said=shown,
    )


@router.post("/ui/datasets/{dataset_id}/delete", dependencies=[SameOrigin])
def delete(request: Request, dataset_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Take a data set away, and show those that are left."""
    services.datasets.delete(visitor.project_id, dataset_id)
    if "hx-request" in request.headers:
        return Response(headers={"HX-Redirect": "/ui/datasets"})
    return RedirectResponse("/ui/datasets", 303)
