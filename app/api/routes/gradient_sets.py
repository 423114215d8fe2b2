"""``/v1/gradient-sets``."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from app.api import deps, pagination, serializers
from app.api.middleware import StrictRoute
from app.api.schemas.fields import Page
from app.api.schemas.gradient_sets import GradientSetRead

router = APIRouter(prefix="/v1/gradient-sets", tags=["gradient sets"], route_class=StrictRoute)


@router.get("")
def list_gradient_sets(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[GradientSetRead]:
    """Gradient sets, newest first."""
    before = pagination.id_cursor(after, "gs")
    rows = services.gradient_sets.page(project, before=before, limit=limit + 1)
    return serializers.page(
        request, response, rows, limit, partial(serializers.gradient_set_read, request), lambda row: row.id
    )


@router.get("/{gradient_set_id}")
def get_gradient_set(
    request: Request, gradient_set_id: deps.GradientSetId, project: deps.Project, services: deps.ServicesDep
) -> GradientSetRead:
    """One gradient set, and what each of its shards takes."""
    row, shards = services.gradient_sets.get(project, gradient_set_id)
    return serializers.gradient_set_read(request, row, shards)
