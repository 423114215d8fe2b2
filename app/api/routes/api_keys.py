"""``/v1/api-keys``: keys of the caller's own project, for callers with the scope ``admin``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.api import deps, pagination, serializers
from app.api.middleware import StrictRoute
from app.api.schemas.api_keys import ApiKeyCreate, ApiKeyMade, ApiKeyRead, ApiKeyRotate
from app.api.schemas.fields import Page
from app.persistence.tables import ApiKey

router = APIRouter(prefix="/v1/api-keys", tags=["API keys"], route_class=StrictRoute)


def _made(response: Response, key: ApiKey, secret: str) -> ApiKeyMade:
    response.headers["Cache-Control"] = "no-store"
    return ApiKeyMade(**ApiKeyRead.model_validate(key).model_dump(), secret=secret)


@router.get("")
def list_api_keys(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[ApiKeyRead]:
    """Keys, newest first, without their secrets."""
    before = pagination.id_cursor(after, "key")
    rows = services.keys.page(project, before=before, limit=limit + 1)
    return serializers.page(request, response, rows, limit, ApiKeyRead.model_validate, lambda key: key.id)


@router.post("", status_code=201)
def create_api_key(
    response: Response, body: ApiKeyCreate, project: deps.Project, services: deps.ServicesDep
) -> ApiKeyMade:
    """Make a key; its secret is in this answer and nowhere else."""
    return _made(response, *services.keys.create(project, body.name, body.scopes, body.expires_in_days))


@router.post("/{key_id}/rotate", status_code=201)
def rotate_api_key(
    response: Response, key_id: deps.KeyId, body: ApiKeyRotate, project: deps.Project, services: deps.ServicesDep
) -> ApiKeyMade:
    """Make a key with the same rights; the old one ends after the overlap."""
    return _made(response, *services.keys.rotate(project, key_id, body.overlap_hours))


@router.delete("/{key_id}", status_code=204)
def revoke_api_key(key_id: deps.KeyId, project: deps.Project, services: deps.ServicesDep) -> None:
    """End a key at once."""
    services.keys.revoke(project, key_id)
