"""``/v1/datasets/uploads``: files in parts, so that a connection that breaks costs one part and not the whole file."""

from __future__ import annotations

import base64
import binascii
import re
from functools import partial
from pathlib import Path as Folder
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.api import deps, pagination, serializers
from app.api.middleware import StrictRoute
from app.api.schemas.datasets import DatasetRead
from app.api.schemas.fields import Page
from app.api.schemas.uploads import PartRead, UploadCreate, UploadRead
from app.api.uploads import Writer
from app.errors import ServiceError
from app.services.datasets.service import Upload
from app.services.datasets.uploads import MOST_PARTS

router = APIRouter(prefix="/v1/datasets/uploads", tags=["data sets"], route_class=StrictRoute)

PART_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
PartNumber = Annotated[int, Path(ge=1, le=MOST_PARTS, description="Which part, from 1.", examples=[1])]
Sha256 = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$", description="Only of the file with this sha256 (hex).")]
SHA_256_FIELD = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):")


@router.post("", status_code=201, response_model=UploadRead)
def begin_upload(body: UploadCreate, project: deps.Project, services: deps.ServicesDep, key: deps.KeyDep) -> Response:
    """Announce a file; its parts follow in any order, and may be sent again."""
    view, replayed = services.uploads.begin(project, body.wanted(), key)
    headers = {"Location": f"/v1/datasets/uploads/{view.upload.id}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(serializers.upload_read(view).model_dump(mode="json"), 201, headers)


@router.get("")
def list_uploads(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    sha256: Sha256 | None = None,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[UploadRead]:
    """Uploads that wait for parts, newest first: where a client that was interrupted finds its own again."""
    before = pagination.id_cursor(after, "up")
    views = services.uploads.page(project, sha256=sha256, before=before, limit=limit + 1)
    return serializers.page(request, response, views, limit, serializers.upload_read, lambda view: view.upload.id)


@router.get("/{upload_id}")
def get_upload(upload_id: deps.UploadId, project: deps.Project, services: deps.ServicesDep) -> UploadRead:
    """One upload, and which parts have arrived."""
    return serializers.upload_read(services.uploads.get(project, upload_id))


@router.put("/{upload_id}/parts/{number}", openapi_extra=PART_BODY)
async def put_part(
    request: Request,
    upload_id: deps.UploadId,
    number: PartNumber,
    project: deps.Project,
    services: deps.ServicesDep,
    digest: Annotated[
        str | None,
        Header(alias="Content-Digest", max_length=1000, description="`sha-256=:BASE64:` (RFC 9530) of the part."),
    ] = None,
) -> PartRead:
    """Send a part: `part_bytes` bytes, the last one what is left. In place of an earlier one of this number."""
    size = await run_in_threadpool(services.uploads.size_of_part, project, upload_id, number)
    with services.store.scratch() as folder:
        part = await _received(request, folder, number, size, digest)
        await run_in_threadpool(services.uploads.keep, project, upload_id, number, part)
    return PartRead(number=number, bytes=part.bytes, sha256=part.sha256)


@router.post("/{upload_id}/complete", status_code=202, response_model=DatasetRead)
async def complete_upload(
    request: Request,
    upload_id: deps.UploadId,
    project: deps.Project,
    services: deps.ServicesDep,
) -> Response:
    """Put the parts together and check the whole; repeating the call answers the same data set."""
    dataset_id, replayed = await run_in_threadpool(services.uploads.complete, project, upload_id)
    view = await run_in_threadpool(partial(services.datasets.get, project, dataset_id))
    headers = {"Location": f"/v1/datasets/{dataset_id}", "Retry-After": str(serializers.POLL_SECONDS)}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(serializers.dataset_read(request, view).model_dump(mode="json"), 202, headers)


@router.delete("/{upload_id}", status_code=204)
def delete_upload(upload_id: deps.UploadId, project: deps.Project, services: deps.ServicesDep) -> None:
    """Give an upload up; the data set of a completed one stays."""
    services.uploads.give_up(project, upload_id)


async def _received(request: Request, folder: Folder, number: int, size: int, digest: str | None) -> Upload:
    """The body as a file, once it is the part that it should be.

    Raises:
        ServiceError: ``unsupported-media-type``, ``validation-error`` or ``digest-mismatch``.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {"", "application/octet-stream"}:
        raise ServiceError("unsupported-media-type", "send the part as application/octet-stream")
    announced = _announced(digest)
    with Writer(folder / "part", size) as writer:
        async for chunk in request.stream():
            writer.write(chunk)
        part = writer.close()
    if part.bytes != size:
        detail = f"part {number} has to have {size} bytes, {part.bytes} came"
        raise ServiceError("validation-error", detail, pointer="#")
    if announced is not None and announced != part.sha256:
        raise ServiceError("digest-mismatch", f"the sha256 of part {number} is {part.sha256}, not what was announced")
    return part


def _announced(header: str | None) -> str | None:
    """The sha256 (hex) that a ``Content-Digest`` announces.

    Raises:
        ServiceError: ``validation-error``: it has none that can be read.
    """
    if header is None:
        return None
    match = SHA_256_FIELD.search(header)
    try:
        raw = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        detail = "Content-Digest: write sha-256=:BASE64:"
        raise ServiceError(
            "validation-error", detail, errors=[{"detail": detail, "parameter": "Content-Digest", "in": "header"}]
        )
    return raw.hex()
