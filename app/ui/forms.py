"""New jobs from the form, clones of jobs, cancelling and deleting."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from app.api import deps, serializers
from app.api.routes.jobs import job_request, request_digest
from app.api.uploads import BLOCK_BYTES, Writer
from app.errors import NotFoundError, ServiceError
from app.ids import new_id
from app.services.access.keys import Caller
from app.services.datasets.service import DatasetView, Upload
from app.services.jobs.service import Filters
from app.settings import Settings
from app.status import DatasetStatus
from app.ui.auth import SameOrigin, Visitor
from app.ui.job_form import (
    FIELDS,
    GRADIENT_NUMBERS,
    GRADIENT_WORDS,
    LABELS,
    SELECTION_NUMBERS,
    UNITS,
    FormFields,
    blank,
    clone,
    request_of,
)
from app.ui.jobs import MOST_DATASETS
from app.ui.pages import page
from spice_select.errors import SpiceError
from spice_select.ingest.source_urls import parse_source

router = APIRouter(include_in_schema=False)

MORE = {*SELECTION_NUMBERS, *GRADIENT_NUMBERS, *GRADIENT_WORDS, "seed", "priority", "deadline"}
"""Fields that are folded away until something is wrong with one."""


@router.get("/ui/new")
def new_job(request: Request, visitor: Visitor, like: str = "", dataset_id: str = "") -> Response:
    """The form, empty or filled as another job was."""
    if like:
        view = request.app.state.services.jobs.get(visitor.project_id, like)
        draft = clone(serializers.job_read(request, view), new_id("page"))
    else:
        draft = blank(request.app.state.services.settings.default_proxy, new_id("page"))
        draft.values["dataset_id"] = dataset_id
    return form_page(request, visitor, draft)


@router.post("/ui/new", dependencies=[SameOrigin])
async def submit(request: Request, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Keep the file if there is one, and queue the job as soon as its rows are checked."""
    with services.store.scratch() as folder:
        values, upload, filename = await _read(request, folder, services.settings.max_upload_bytes)
        return await run_in_threadpool(_submit, request, visitor, FormFields(values), upload, filename)


@router.post("/ui/jobs/{job_id}/cancel", dependencies=[SameOrigin])
def cancel(job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Stop a job."""
    services.jobs.cancel(visitor.project_id, job_id)
    return RedirectResponse(f"/ui/jobs/{job_id}", 303)


@router.post("/ui/jobs/{job_id}/delete", dependencies=[SameOrigin])
def delete(request: Request, job_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Take a job that has ended away, and show those that are left."""
    services.jobs.delete(visitor.project_id, job_id, None)
    if "hx-request" in request.headers:
        return Response(headers={"HX-Redirect": "/ui"})  # a page of its own, not one inside the page
    return RedirectResponse("/ui", 303)


async def _read(request: Request, folder: Path, max_bytes: int) -> tuple[dict[str, str], Upload | None, str]:
    """The fields of the form, and the file if one was chosen.

    Raises:
        ServiceError: ``malformed-request``.
    """
    try:
        form = await request.form(max_files=1, max_fields=40, max_part_size=64 * 1024)
    except MultiPartException as error:
        raise ServiceError("malformed-request", f"the form cannot be read: {error.message}") from error
    try:
        values = {name: text for name in FIELDS if isinstance(text := form.get(name), str)}
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            return values, None, ""
        with Writer(folder / "upload", max_bytes) as writer:
            while chunk := await file.read(BLOCK_BYTES):
                writer.write(chunk)
        name = "".join(letter for letter in Path(file.filename).name if letter.isprintable())[:200]
        return values, writer.close(), name
    finally:
        await form.close()


def _submit(request: Request, visitor: Caller, draft: FormFields, upload: Upload | None, filename: str) -> Response:
    """One step on the way from a form to a job."""
    services, project = request.app.state.services, visitor.project_id
    like = None
    if draft.values.get("like"):
        like = serializers.job_read(request, services.jobs.get(project, draft.values["like"]))
    once = draft.values.get("once") or new_id("page")
    source = draft.values.get("source", "").strip()
    if upload is not None:
        _keep(request, visitor, draft, upload, filename, once)
    elif source:
        _fetch(request, visitor, draft, source, once)
    elif not draft.values.get("dataset_id"):
        draft.refuse("file", "choose a file, or a data set that is here already")
    asked = request_of(draft, like)
    if asked is None or draft.errors:
        return form_page(request, visitor, draft)
    try:
        view: DatasetView = services.datasets.get(project, asked.dataset_id)
        if view.dataset.status == DatasetStatus.VALIDATING:
            progress = serializers.dataset_read(request, view).progress
            return page("starting.html", visitor=visitor, draft=draft, dataset=view.dataset, progress=progress)
        digest = request_digest(asked)
        # Sent twice, it is one job; changed and sent again, it is another.
        made, _ = services.jobs.create(project, job_request(asked), key=f"{once[:60]}-{digest}", body=digest)
    except NotFoundError as error:
        draft.refuse("dataset_id", error.detail)
        return form_page(request, visitor, draft)
    except (ServiceError, SpiceError) as error:
        draft.refuse_all(error)
        return form_page(request, visitor, draft)
    address = f"/ui/jobs/{made.job.id}"
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


def _fetch(request: Request, visitor: Caller, draft: FormFields, address: str, once: str) -> None:
    """Have the data set fetched and put it into the form, in place of its address.

    Raises:
        ServiceError: ``forbidden``.
    """
    if not visitor.may("datasets:write"):
        raise ServiceError("forbidden", "the API key lacks the scope datasets:write")
    key = f"{once[:60]}-{sha256(address.encode()).hexdigest()}"
    try:
        view, _ = request.app.state.services.datasets.fetch_from(
            visitor.project_id, parse_source(address), name=None, requested={}, metadata={}, key=key
        )
    except (ServiceError, SpiceError) as error:
        draft.refuse("source", error.detail)
        return
    draft.values |= {"dataset_id": view.dataset.id, "source": ""}


def _sources(settings: Settings) -> str:
    """How the addresses begin that the settings allow; empty where they allow none."""
    kinds = {
        "hf://datasets/": settings.source_hub_repos,
        "https://": settings.source_https_hosts,
        "s3://": settings.source_s3_prefixes,
        "file:": settings.source_roots,
    }
    return ", ".join(start for start, allowed in kinds.items() if allowed)


def _keep(request: Request, visitor: Caller, draft: FormFields, upload: Upload, filename: str, once: str) -> None:
    """Register the file and put its data set into the form, so that an error elsewhere does not lose it.

    Raises:
        ServiceError: ``forbidden``.
    """
    if not visitor.may("datasets:write"):
        raise ServiceError("forbidden", "the API key lacks the scope datasets:write")
    if upload.bytes == 0:
        draft.refuse("file", "the file has no bytes")
        return
    view, _ = request.app.state.services.datasets.register(
        visitor.project_id,
        upload,
        name=filename or None,
        requested={},
        metadata={},
        key=f"{once[:60]}-{upload.sha256}",
    )
    draft.values["dataset_id"] = view.dataset.id


def _touched(draft: FormFields, name: str) -> bool:
    """Whether a field that is folded away holds something to look at."""
    usual = blank("", "").values.get(name, "")
    return name in draft.errors or draft.values.get(name, usual) != usual


def form_page(request: Request, visitor: Caller, draft: FormFields) -> Response:
    """The form with what was typed and what is wrong."""
    services, project = request.app.state.services, visitor.project_id
    datasets = []
    if visitor.may("datasets:read"):
        views = services.datasets.page(project, Filters(), before=None, limit=MOST_DATASETS)
        chosen = draft.values.get("dataset_id", "")
        if chosen and all(view.dataset.id != chosen for view in views):
            with suppress(NotFoundError):
                views.append(services.datasets.get(project, chosen))
        datasets = [view.dataset for view in views if view.dataset.status != DatasetStatus.INVALID]
    settings = services.settings
    values: dict[str, Any] = {
        "visitor": visitor,
        "draft": draft,
        "datasets": datasets,
        "units": UNITS,
        "labels": LABELS,
        "proxies": sorted({settings.default_proxy, *settings.allowed_proxies} - {"*"}),
        "any_proxy": "*" in settings.allowed_proxies or settings.proxy_root is not None,
        "more_open": bool(draft.values.get("like")) or any(_touched(draft, name) for name in MORE),
        "max_upload_bytes": settings.max_upload_bytes,
        "takes_sources": _sources(settings),
    }
    if "hx-request" in request.headers:
        # A form that was refused while its file was being checked takes the place of the whole page.
        headers = {"HX-Retarget": "#content", "HX-Reswap": "outerHTML", "HX-Reselect": "#content"}
        return page("new.html", headers=headers, **values)
    return page("new.html", http_status=422 if draft.errors else 200, **values)
