"""Previews of data sets as pages: how the rows are read, with what is learned of each marked."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from app.api import deps
from app.api.schemas.dataset_previews import DatasetPreviewRead, PreviewedRowRead, RejectedAnswerRead
from app.api.services import Services
from app.api.uploads import BLOCK_BYTES, Writer
from app.errors import ServiceError
from app.services.access.keys import Caller
from app.services.datasets.previews import PreviewRequest
from app.services.datasets.service import Upload
from app.ui.auth import SameOrigin, Visitor
from app.ui.pages import page
from spice_select.config import ProxyConfig
from spice_select.errors import SpiceError
from spice_select.ingest import IntakeOptions
from spice_select.records.formats import FORMS

router = APIRouter(include_in_schema=False)

FIELDS = ("format", "columns", "proxy")


@router.get("/ui/datasets/preview")
def preview_form(visitor: Visitor, services: deps.ServicesDep) -> Response:
    """The form that takes a file."""
    return _form(visitor, services, {})


@router.post("/ui/datasets/preview", dependencies=[SameOrigin])
async def preview_file(request: Request, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """What the file would be read as; it is not kept.

    Raises:
        ServiceError: ``forbidden`` or ``malformed-request``.
    """
    if not visitor.may("datasets:write"):
        raise ServiceError("forbidden", "the API key lacks the scope datasets:write")
    with services.store.scratch() as folder:
        try:
            form = await request.form(max_files=1, max_fields=8, max_part_size=64 * 1024)
        except MultiPartException as error:
            raise ServiceError("malformed-request", f"the form cannot be read: {error.message}") from error
        try:
            values = {name: text.strip() for name in FIELDS if isinstance(text := form.get(name), str)}
            file = form.get("file")
            if not isinstance(file, UploadFile) or not file.filename:
                return _form(visitor, services, values, error="Choose a file.")
            with Writer(folder / "upload", services.settings.preview_bytes) as writer:
                while chunk := await file.read(BLOCK_BYTES):
                    writer.write(chunk)
            upload, name = writer.close(), file.filename[:200]
        finally:
            await form.close()
        return await run_in_threadpool(_made, visitor, services, values, upload, name)


@router.get("/ui/datasets/{dataset_id}/preview")
def preview_dataset(dataset_id: str, visitor: Visitor, services: deps.ServicesDep, proxy: str = "") -> Response:
    """The first rows of a data set that is here."""
    dataset = services.datasets.get(visitor.project_id, dataset_id).dataset
    values = {"proxy": proxy}
    about: dict[str, Any] = {"name": dataset.name or dataset.id, "dataset": dataset}
    try:
        made = services.dataset_previews.of_dataset(visitor.project_id, dataset_id, _request(values))
    except (ServiceError, SpiceError) as error:
        return _form(visitor, services, values, problem=error, **about)
    return _form(visitor, services, values, preview=DatasetPreviewRead.model_validate(made), **about)


def _request(values: dict[str, str]) -> PreviewRequest:
    return PreviewRequest(proxy=ProxyConfig(model=values["proxy"]) if values.get("proxy") else None)


def _made(visitor: Caller, services: Services, values: dict[str, str], upload: Upload, name: str) -> Response:
    """The page with what was found, or with what is wrong."""
    try:
        columns = json.loads(values["columns"]) if values.get("columns") else None
        given = IntakeOptions.model_validate({"format": values.get("format") or None, "columns": columns})
        made = services.dataset_previews.of_upload(upload, given.model_dump(exclude_none=True), _request(values))
    except (ServiceError, SpiceError) as error:
        return _form(visitor, services, values, name=name, problem=error)
    except ValueError as error:
        return _form(visitor, services, values, name=name, error=str(error).splitlines()[0])
    return _form(visitor, services, values, name=name, preview=DatasetPreviewRead.model_validate(made))


def _form(visitor: Caller, services: Services, values: dict[str, str], **found: Any) -> Response:
    refused = bool(found.get("problem") or found.get("error"))
    settings = services.settings
    return page(
        "preview.html",
        http_status=422 if refused else 200,
        visitor=visitor,
        values=values,
        forms=FORMS,
        pieces=pieces,
        proxies=sorted({settings.default_proxy, *settings.allowed_proxies} - {"*"}),
        max_bytes=settings.preview_bytes,
        **found,
    )


def pieces(row: PreviewedRowRead | RejectedAnswerRead) -> list[tuple[float, str]]:
    """The text of a row cut where labels begin and end: the weight of each piece, 0 where it is not learned.

    Args:
        row: A row that is rendered.
    """
    text = row.text or ""
    weights = {(span.start, span.end): span.weight for span in row.learned}
    edges = sorted({0, len(text), *(edge for span in weights for edge in span)})
    return [(weights.get((start, end), 0.0), text[start:end]) for start, end in pairwise(edges)]
