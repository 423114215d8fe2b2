"""Files in parts from the page's script, so that a connection that breaks costs one part: the calls of the API.

They have addresses of their own because a session of the page opens nothing below ``/v1``.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api import deps
from app.api.middleware import StrictRoute
from app.api.routes import uploads
from app.api.schemas.fields import Page
from app.api.schemas.uploads import PartRead, UploadCreate, UploadRead
from app.ui.auth import SameOrigin, Visitor

router = APIRouter(prefix="/ui/datasets/uploads", include_in_schema=False, route_class=StrictRoute)


@router.post("", status_code=201, dependencies=[SameOrigin])
def begin(body: UploadCreate, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Announce a file."""
    return uploads.begin_upload(body, visitor.project_id, services, None)


@router.get("")
def waiting(
    request: Request,
    response: Response,
    visitor: Visitor,
    services: deps.ServicesDep,
    sha256: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")],
) -> Page[UploadRead]:
    """Uploads of this file that wait for parts."""
    return uploads.list_uploads(request, response, visitor.project_id, services, sha256)


@router.get("/{upload_id}")
def arrived(upload_id: deps.UploadId, visitor: Visitor, services: deps.ServicesDep) -> UploadRead:
    """Which parts have arrived."""
    return uploads.get_upload(upload_id, visitor.project_id, services)


@router.put("/{upload_id}/parts/{number}", dependencies=[SameOrigin])
async def put_part(
    request: Request,
    upload_id: deps.UploadId,
    number: uploads.PartNumber,
    visitor: Visitor,
    services: deps.ServicesDep,
) -> PartRead:
    """Take a part."""
    return await uploads.put_part(request, upload_id, number, visitor.project_id, services, None)


@router.post("/{upload_id}/complete", status_code=202, dependencies=[SameOrigin])
async def complete(
    request: Request, upload_id: deps.UploadId, visitor: Visitor, services: deps.ServicesDep
) -> Response:
    """Put the parts together as a data set."""
    return await uploads.complete_upload(request, upload_id, visitor.project_id, services)
