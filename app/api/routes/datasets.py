"""``/v1/datasets``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.api import deps, pagination, serializers
from app.api.long_poll import Wait, until_changed
from app.api.middleware import StrictRoute
from app.api.openapi import CONDITIONAL
from app.api.schemas.datasets import DatasetCreate, DatasetRead, RejectedRead, RowRead
from app.api.schemas.fields import Page
from app.api.uploads import RAW_TYPES, receive, rows_alone
from app.services.datasets.service import DatasetView
from app.status import DatasetStatus
from spice_select.records.exact_numbers import dump_record

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], route_class=StrictRoute)

COLUMNS_FIELD = {"type": "string", "description": "JSON object, role to column"}
METADATA_FIELD = {"type": "string", "description": "JSON object of strings"}


def _body(fields: dict[str, Any], json: dict[str, Any], query: tuple[str, ...]) -> dict[str, Any]:
    """A body that holds a file: as a part beside fields, as it is, or records as JSON.

    Args:
        fields: Parts beside ``file``.
        json: Schema of a JSON body.
        query: Parameters that take the place of the parts.
    """
    parts = {"file": {"type": "string", "format": "binary"}, "name": {"type": "string"}, **fields}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": parts}},
                **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(RAW_TYPES)},
                "application/json": {"schema": json},
            },
        },
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in query
        ],
    }


UPLOAD_BODY = _body(
    {
        "format": {"type": "string"},
        "columns": COLUMNS_FIELD,
        "encoding": {"type": "string"},
        "metadata": METADATA_FIELD,
    },
    {
        "oneOf": [
            {"$ref": "#/components/schemas/DatasetCreate"},
            {
                "type": "array",
                "minItems": 1,
                "items": {},
                "description": "The records themselves; one that is not an object is listed as rejected.",
            },
        ]
    },
    ("name", "format", "columns", "encoding"),
)
APPEND_BODY = _body({"metadata": METADATA_FIELD}, {"type": "array", "minItems": 1, "items": {}}, ("name",))


@router.post("", status_code=202, response_model=DatasetRead, openapi_extra=UPLOAD_BODY)
async def register_dataset(
    request: Request,
    project: deps.Project,
    services: deps.ServicesDep,
    key: deps.KeyDep,
) -> Response:
    """Send a file, or say where one is to be fetched from; its rows are validated in the background."""
    with services.store.scratch() as folder:
        form = await receive(request, folder, services.settings.max_upload_bytes, services.settings.max_body_bytes)
        about: dict[str, Any] = {"name": form.name, "requested": form.requested, "metadata": form.metadata, "key": key}
        register: Callable[[], tuple[DatasetView, bool]]
        if isinstance(form, DatasetCreate):
            register = partial(services.datasets.fetch_from, project, form.source, **about)
        else:
            register = partial(services.datasets.register, project, form.upload, **about)
        view, replayed = await run_in_threadpool(register)
    return _accepted(request, view, replayed=replayed)


@router.post("/{dataset_id}/append", status_code=202, response_model=DatasetRead, openapi_extra=APPEND_BODY)
async def append_rows(
    request: Request,
    dataset_id: deps.DatasetId,
    project: deps.Project,
    services: deps.ServicesDep,
    key: deps.KeyDep,
) -> Response:
    """Make a new version of a data set: its rows and, behind them, those of a file that is read in the same way."""
    await run_in_threadpool(services.datasets.get, project, dataset_id)  # before a long file is received in vain
    with services.store.scratch() as folder:
        form = rows_alone(
            await receive(
                request,
                folder,
                services.settings.max_upload_bytes,
                services.settings.max_body_bytes,
                named_by_file=False,
            )
        )
        make = partial(services.datasets.append, project, dataset_id, form.upload, folder, key=key)
        view, replayed = await run_in_threadpool(make, name=form.name, metadata=form.metadata)
    return _accepted(request, view, replayed=replayed)


def _accepted(request: Request, view: DatasetView, *, replayed: bool) -> Response:
    headers = {"Location": f"/v1/datasets/{view.dataset.id}", "Retry-After": str(serializers.POLL_SECONDS)}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(serializers.dataset_read(request, view).model_dump(mode="json"), 202, headers)


@router.get("")
def list_datasets(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    filters: deps.FiltersDep,
    status: Annotated[DatasetStatus | None, Query()] = None,
    include: Annotated[
        Literal["internal"] | None, Query(description="`internal`: also the target rows that jobs brought along.")
    ] = None,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[DatasetRead]:
    """Data sets, newest first unless ``sort`` says otherwise; without the target rows that jobs brought along."""
    filters, before = pagination.listed(filters, after, "ds")
    wanted = replace(filters, status=status, internal=include == "internal")
    views = services.datasets.page(project, wanted, before=before, limit=limit + 1)
    show = partial(serializers.dataset_read, request)
    return serializers.page(
        request,
        response,
        views,
        limit,
        show,
        lambda view: pagination.list_place(filters, view.dataset.id, view.dataset.name),
    )


@router.get("/{dataset_id}", response_model=DatasetRead, responses=CONDITIONAL)
async def get_dataset(
    request: Request,
    response: Response,
    dataset_id: deps.DatasetId,
    project: deps.Project,
    services: deps.ServicesDep,
    wait: Wait = 0,
) -> Any:
    """One data set; ``wait`` holds the answer while it is being validated."""

    def mark(view: DatasetView) -> object:
        return view.dataset.status if view.dataset.status == DatasetStatus.VALIDATING else None

    view = await until_changed(request, partial(services.datasets.get, project, dataset_id), mark, wait)
    settled = view.dataset.status != DatasetStatus.VALIDATING
    if serializers.mark_state(request, response, serializers.dataset_version(view), settled=settled):
        return Response(status_code=304, headers=dict(response.headers))
    return serializers.dataset_read(request, view)


@router.get("/{dataset_id}/rejected")
def list_rejected_rows(
    request: Request,
    response: Response,
    dataset_id: deps.DatasetId,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 100,
    after: deps.After = None,
) -> Page[RejectedRead]:
    """Every row that cannot be used, and why."""
    rows = services.datasets.rejected(project, dataset_id, after=pagination.number_cursor(after, -1), limit=limit + 1)
    return serializers.page(
        request,
        response,
        rows,
        limit,
        lambda row: RejectedRead(row=row.row, code=row.code, detail=row.detail),
        lambda row: row.row,
    )


@router.get("/{dataset_id}/rows", response_model=Page[RowRead])
def list_rows(
    request: Request,
    response: Response,
    dataset_id: deps.DatasetId,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 20,
    after: deps.After = None,
) -> Response:
    """Usable rows, as they will be trained on."""
    rows = services.datasets.rows(project, dataset_id, after=pagination.number_cursor(after, -1), limit=limit + 1)
    page = serializers.page(request, response, rows, limit, lambda row: RowRead(**row), lambda row: int(row["row"]))
    # Written by hand: what else writes JSON knows doubles alone.
    return Response(dump_record(page.model_dump()), media_type="application/json", headers=dict(response.headers))


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(
    dataset_id: deps.DatasetId, project: deps.Project, services: deps.ServicesDep, expected: deps.MatchDep
) -> None:
    """Take the data set and its bytes away; finished jobs keep their results."""
    services.datasets.delete(project, dataset_id, expected)
