"""Files of results: below ``/v1/jobs/{job_id}``, and behind signed links."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from app.api import deps
from app.api.file_response import send_file
from app.api.middleware import StrictRoute
from app.api.openapi import CONDITIONAL, OPEN_TAG
from app.api.problems import base_url
from app.api.schemas.fields import Page
from app.api.schemas.files import Digest, FileRead, LinkCreate, LinkRead

router = APIRouter(prefix="/v1", route_class=StrictRoute)

JOBS: list[str | Enum] = ["jobs"]
Picks = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only the first k picks: a smaller budget.")]


@router.get("/jobs/{job_id}/files", tags=JOBS)
def list_files(job_id: deps.JobId, project: deps.Project, services: deps.ServicesDep) -> Page[FileRead]:
    """Files of the result."""
    files = [FileRead.model_validate(file) for file in services.results.files(project, job_id)]
    return Page(data=files, has_more=False, next_cursor=None)


@router.head("/jobs/{job_id}/files/{name}", response_class=FileResponse, include_in_schema=False)
@router.get("/jobs/{job_id}/files/{name}", response_class=FileResponse, tags=JOBS, responses=CONDITIONAL)
def get_file(
    request: Request,
    job_id: deps.JobId,
    name: deps.FileName,
    project: deps.Project,
    services: deps.ServicesDep,
    k: Picks = None,
    form: Annotated[
        Literal["messages"] | None, Query(description="Of selected.jsonl: its rows as conversations, for trainers.")
    ] = None,
) -> Response:
    """One file of the result, with ranges and a strong ETag that is its sha256."""
    return send_file(request, services.results.file(project, job_id, name, k, form=form))


@router.post("/jobs/{job_id}/files/{name}/links", status_code=201, response_model=LinkRead, tags=JOBS)
def create_link(
    request: Request,
    job_id: deps.JobId,
    name: deps.FileName,
    project: deps.Project,
    services: deps.ServicesDep,
    body: LinkCreate,
) -> Response:
    """An address that opens the file without an API key until it expires, for tools that can send none."""
    token, link, file = services.results.link(project, job_id, name, k=body.k, seconds=body.expires_in_seconds)
    shown = LinkRead(
        url=f"{base_url(request)}/v1/links/{token}/{quote(name, safe='')}",
        expires_at=datetime.fromtimestamp(link.expires, UTC),
        name=name,
        k=link.k,
        bytes=file.bytes,
        digest=Digest(sha256=file.sha256),
    )
    headers = {"Location": shown.url, "Cache-Control": "no-store"}
    return JSONResponse(shown.model_dump(mode="json"), 201, headers)


@router.head("/links/{token}/{name}", response_class=FileResponse, include_in_schema=False)
@router.get("/links/{token}/{name}", response_class=FileResponse, tags=[OPEN_TAG], responses=CONDITIONAL)
def get_linked_file(
    request: Request, token: deps.LinkToken, name: deps.FileName, services: deps.ServicesDep
) -> Response:
    """The file that a signed link opens; needs no API key."""
    return send_file(request, services.results.linked(token, name), {"Referrer-Policy": "no-referrer"})
