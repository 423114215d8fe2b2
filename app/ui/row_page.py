"""Pages that say why a row was selected by a job, or not, and which came nearest to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from app.api import deps
from app.errors import NotFoundError, ServiceError
from app.ui.auth import Visitor
from app.ui.pages import page
from spice_select.records.conversation import shown

router = APIRouter(include_in_schema=False)

MOST_DIGITS = 15
ROWS = 20
"""Rows on a page of those that were not selected."""


@router.get("/ui/jobs/{job_id}/rows")
def show_row(
    job_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    row: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """Why a row was selected, or not; without a row only the form that asks for one.

    Raises:
        NotFoundError: There is no such job in the project.
        ServiceError: Anything but a row that is not there.
    """
    job = services.jobs.get(visitor.project_id, job_id).job
    values: dict[str, Any] = {"visitor": visitor, "job": job, "row": row.strip(), "said": shown}
    if not values["row"]:
        return page("row.html", **values)
    if not (values["row"].isascii() and values["row"].isdigit() and len(values["row"]) <= MOST_DIGITS):
        return page("row.html", http_status=422, error="A row is a whole number, from 0.", **values)
    try:
        found = services.row_evidence.explain(visitor.project_id, job_id, int(values["row"]))
    except (NotFoundError, ServiceError) as error:
        if error.code not in {"not-found", "conflict-state", "evidence-unavailable"}:
            raise
        status = 404 if error.code == "not-found" else 409
        return page("row.html", http_status=status, error=error.detail, **values)
    return page("row.html", found=found, **values)


@router.get("/ui/jobs/{job_id}/rows/not-selected")
def show_not_selected(
    job_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    status: Literal["not_selected", "excluded"] = "not_selected",
    after: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """Candidates that came nearest to being selected, or rows that were left out before, each with its reason.

    Raises:
        ServiceError: Anything but a job without such evidence.
    """
    job = services.jobs.get(visitor.project_id, job_id).job
    values: dict[str, Any] = {"visitor": visitor, "job": job, "status": status, "after": after, "said": shown}
    try:
        rows = services.row_evidence.not_selected(visitor.project_id, job_id, status, after=after, limit=ROWS + 1)
    except ServiceError as error:
        if error.code not in {"conflict-state", "evidence-unavailable"}:
            raise
        return page("not_selected.html", http_status=409, error=error.detail, rows=[], following=None, **values)
    following = after + ROWS if len(rows) > ROWS else None
    return page("not_selected.html", rows=rows[:ROWS], following=following, **values)
