"""``/v1/datasets:preview``: how a data set would be read and learned, before it is sent for good."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from app.api import deps
from app.api.middleware import StrictRoute
from app.api.problems import BodyError
from app.api.routes.datasets import UPLOAD_BODY
from app.api.schemas.dataset_previews import DatasetPreviewRead
from app.api.schemas.datasets import DatasetCreate
from app.api.uploads import Form, receive
from app.errors import ServiceError
from app.services.datasets.previews import PreviewRequest
from app.settings import Settings
from spice_select.config import GradientConfig, Objective, ProxyConfig

router = APIRouter(prefix="/v1", tags=["data sets"], route_class=StrictRoute)


async def preview_request(  # ruff: ignore[unused-async] - a plain function would cost a thread
    rows: Annotated[int, Query(ge=1, le=50, description="How many usable and how many rejected rows are shown.")] = 5,
    proxy: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Proxy model whose chat template renders them.")
    ] = None,
    revision: Annotated[
        str | None, Query(min_length=1, max_length=100, description="Its commit, branch or tag.")
    ] = None,
    max_length: Annotated[int, Query(ge=8, le=2**20, description="Longest sequence in tokens.")] = 1024,
    objective: Annotated[
        Objective, Query(description="What is learned of preference data: `sft_chosen` or `dpo`, by default of pairs.")
    ] = "sft",
) -> PreviewRequest:
    """How a preview is made.

    Raises:
        ServiceError: ``config-invalid``: a revision of no model.
    """
    if revision is not None and proxy is None:
        raise ServiceError("config-invalid", "revision goes with proxy")
    asked = None if proxy is None else ProxyConfig(model=proxy, revision=revision)
    return PreviewRequest(rows=rows, proxy=asked, gradients=GradientConfig(max_length=max_length, objective=objective))


PreviewDep = Annotated[PreviewRequest, Depends(preview_request)]


@router.post("/datasets:preview", response_model=DatasetPreviewRead, openapi_extra=UPLOAD_BODY)
async def preview_dataset(
    request: Request,
    _project: deps.Project,
    services: deps.ServicesDep,
    asked: PreviewDep,
) -> Any:
    """Show how a file or a source would be read, and what would be learned of its first rows; nothing is stored.

    Takes what `POST /v1/datasets` takes. Of a file at most 64 MiB (`SPICE_PREVIEW_BYTES`) and 1,000 rows are read.
    """
    settings = services.settings
    with services.store.scratch() as folder:
        form = await _received(request, folder, settings)
        if isinstance(form, DatasetCreate):
            make = partial(services.dataset_previews.of_source, form.source, form.requested, asked)
        else:
            make = partial(services.dataset_previews.of_upload, form.upload, form.requested, asked)
        return await run_in_threadpool(make)


async def _received(request: Request, folder: Path, settings: Settings) -> Form | DatasetCreate:
    """What was sent.

    Raises:
        BodyError: ``payload-too-large``, which says what to send instead.
    """
    try:
        return await receive(request, folder, settings.preview_bytes, settings.max_body_bytes)
    except BodyError as error:
        if error.code != "payload-too-large":
            raise
        raise BodyError(error.code, f"{error.detail}; a preview is made of the first rows: send those") from error


@router.get("/datasets/{dataset_id}/preview")
def preview_stored_dataset(
    dataset_id: deps.DatasetId, project: deps.Project, services: deps.ServicesDep, asked: PreviewDep
) -> DatasetPreviewRead:
    """What would be learned of the first rows of a data set that is ready."""
    return DatasetPreviewRead.model_validate(services.dataset_previews.of_dataset(project, dataset_id, asked))
