"""Previews of data sets as pages: how the rows are read, with what is learned of each marked."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
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

ROLES = {
    "prompt": "the prompt",
    "response": "the answer",
    "messages": "the conversation",
    "system": "the system prompt",
    "input": "input of the prompt",
    "context": "context of the prompt",
    "history": "turns before",
    "reasoning": "reasoning before the answer",
    "tools": "tools that may be called",
    "text": "plain text",
    "chosen": "the better answer",
    "rejected": "the worse answer",
    "label": "whether the answer is good",
}
"""What a column may be."""
FIELDS = ("format", "columns", "as_read", "proxy", "do")
MOST_COLUMNS = 300


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
            form = await request.form(max_files=1, max_fields=8 + 2 * MOST_COLUMNS, max_part_size=64 * 1024)
        except MultiPartException as error:
            raise ServiceError("malformed-request", f"the form cannot be read: {error.message}") from error
        try:
            values = {name: text.strip() for name in FIELDS if isinstance(text := form.get(name), str)}
            try:
                _map(form, values)
            except ValueError as error:
                return _form(visitor, services, values, error=str(error))
            file = form.get("file")
            if not isinstance(file, UploadFile) or not file.filename:
                return _form(visitor, services, values, error="Choose a file.")
            keep = values.get("do") == "keep"
            most = services.settings.max_upload_bytes if keep else services.settings.preview_bytes
            with Writer(folder / "upload", most) as writer:
                while chunk := await file.read(BLOCK_BYTES):
                    writer.write(chunk)
            upload, name = writer.close(), file.filename[:200]
        finally:
            await form.close()
        return await run_in_threadpool(_made, request, visitor, services, values, upload, name)


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


def _mapping(text: str) -> dict[str, str]:
    """A mapping of roles to columns from JSON.

    Raises:
        ValueError: It is none.
    """
    found = json.loads(text or "{}")
    if not isinstance(found, dict) or not all(isinstance(column, str) for column in found.values()):
        raise ValueError("the columns are not a JSON object of names")
    return found


def _map(form: FormData, values: dict[str, str]) -> None:
    """What was chosen for each column, as the mapping to read by; as it was, where nothing was changed.

    Raises:
        ValueError: Two columns are to be the same.
    """
    chosen: dict[str, str] = {}
    for number in range(MOST_COLUMNS):
        column, role = form.get(f"column-{number}"), form.get(f"role-{number}")
        if not isinstance(column, str) or not isinstance(role, str):
            break
        if role and role in chosen:
            raise ValueError(f"\u201c{chosen[role]}\u201d and \u201c{column}\u201d cannot both be the {role}")
        if role:
            chosen[role] = column
    if "as_read" in values and chosen != _mapping(values["as_read"]):
        values["columns"] = json.dumps(chosen, ensure_ascii=False) if chosen else ""


def _made(
    request: Request, visitor: Caller, services: Services, values: dict[str, str], upload: Upload, name: str
) -> Response:
    """The page with what was found, or with what is wrong; or the page of the data set, once the file is kept."""
    try:
        columns = _mapping(values["columns"]) if values.get("columns") else None
        given = IntakeOptions.model_validate({"format": values.get("format") or None, "columns": columns})
        requested = given.model_dump(exclude_none=True)
        if values.get("do") == "keep":
            view, _ = services.datasets.register(
                visitor.project_id, upload, name=name, requested=requested, metadata={}, key=None
            )
            address = f"/ui/datasets/{view.dataset.id}"
            if "hx-request" in request.headers:
                return Response(status_code=204, headers={"HX-Redirect": address})
            return RedirectResponse(address, 303)
        made = services.dataset_previews.of_upload(upload, requested, _request(values))
    except (ServiceError, SpiceError) as error:
        seen = error.members.get("column_names") if isinstance(error, ServiceError) else None
        return _form(visitor, services, values, name=name, problem=error, column_names=seen)
    except ValidationError as error:
        said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        return _form(visitor, services, values, name=name, error=said)
    except ValueError as error:
        return _form(visitor, services, values, name=name, error=str(error).splitlines()[0])
    return _form(visitor, services, values, name=name, preview=DatasetPreviewRead.model_validate(made))


def _form(visitor: Caller, services: Services, values: dict[str, str], **found: Any) -> Response:
    refused = bool(found.get("problem") or found.get("error"))
    chosen = _chosen(values, found)
    settings = services.settings
    return page(
        "preview.html",
        http_status=422 if refused else 200,
        visitor=visitor,
        values=values,
        forms=FORMS,
        roles=ROLES,
        chosen=chosen,
        as_read={role: column for column, role in chosen.items()},
        pieces=pieces,
        proxies=settings.named_proxies,
        max_bytes=settings.preview_bytes,
        **found,
    )


def _chosen(values: dict[str, str], found: dict[str, Any]) -> dict[str, str]:
    """Column to what it is: as the preview read it, or as it was asked for where it could not be read."""
    preview = found.get("preview")
    if preview is not None:
        roles = preview.columns or {}
    else:
        roles = {}
        with suppress(ValueError):  # which is said already
            roles = _mapping(values.get("columns", ""))
    return {column: role for role, column in roles.items()}


def pieces(row: PreviewedRowRead | RejectedAnswerRead) -> list[tuple[float, str]]:
    """The text of a row cut where labels begin and end: the weight of each piece, 0 where it is not learned.

    Args:
        row: A row that is rendered.
    """
    text = row.text or ""
    weights = {(span.start, span.end): span.weight for span in row.learned}
    edges = sorted({0, len(text), *(edge for span in weights for edge in span)})
    return [(weights.get((start, end), 0.0), text[start:end]) for start, end in pairwise(edges)]
