"""``/v1/webhook-endpoints``: who is told of events, and what was sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api import deps, pagination, serializers
from app.api.middleware import StrictRoute
from app.api.openapi import CONDITIONAL
from app.api.schemas.fields import Page
from app.api.schemas.webhooks import (
    WebhookDeliveryRead,
    WebhookEndpointCreate,
    WebhookEndpointMade,
    WebhookEndpointRead,
    WebhookEndpointUpdate,
    WebhookSecretRotate,
)
from app.persistence.tables import WebhookDelivery, WebhookEndpoint
from app.status import DeliveryState

PATH = "/v1/webhook-endpoints"
router = APIRouter(prefix=PATH, tags=["webhooks"], route_class=StrictRoute)


def _made(endpoint: WebhookEndpoint, secret: str, status: int, headers: dict[str, str]) -> Response:
    shown = WebhookEndpointRead.model_validate(endpoint).model_dump()
    body = WebhookEndpointMade(**shown, secret=secret).model_dump(mode="json")
    tag = {"ETag": f'W/"{endpoint.version}"', "Cache-Control": "no-store"}
    return JSONResponse(body, status, {**tag, **headers})


def _shown(delivery: WebhookDelivery) -> WebhookDeliveryRead:
    pending = delivery.state == DeliveryState.PENDING
    next_attempt = delivery.not_before if pending else None
    return serializers.shown(WebhookDeliveryRead, delivery, next_attempt_at=next_attempt)


def _queued(delivery: WebhookDelivery) -> Response:
    where = f"{PATH}/{delivery.endpoint_id}/deliveries/{delivery.id}"
    headers = {"Location": where, "Retry-After": str(serializers.POLL_SECONDS)}
    return JSONResponse(_shown(delivery).model_dump(mode="json"), 202, headers)


@router.post("", status_code=201, response_model=WebhookEndpointMade)
def create_webhook_endpoint(
    body: WebhookEndpointCreate, project: deps.Project, services: deps.ServicesDep, key: deps.KeyDep
) -> Response:
    """Make an endpoint; the secret that its messages are signed with is in this answer."""
    endpoint, secret, replayed = services.webhooks.create(project, body.url, body.event_types, name=body.name, key=key)
    headers = {"Location": f"{PATH}/{endpoint.id}", **({"Idempotency-Replayed": "true"} if replayed else {})}
    return _made(endpoint, secret, 201, headers)


@router.get("")
def list_webhook_endpoints(
    request: Request,
    response: Response,
    project: deps.Project,
    services: deps.ServicesDep,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[WebhookEndpointRead]:
    """Endpoints, newest first, without their secrets."""
    before = pagination.id_cursor(after, "whe")
    rows = services.webhooks.page(project, before=before, limit=limit + 1)
    return serializers.page(request, response, rows, limit, WebhookEndpointRead.model_validate, lambda row: row.id)


@router.get("/{endpoint_id}", response_model=WebhookEndpointRead, responses=CONDITIONAL)
def get_webhook_endpoint(
    request: Request,
    response: Response,
    endpoint_id: deps.EndpointId,
    project: deps.Project,
    services: deps.ServicesDep,
) -> Any:
    """One endpoint, without its secret."""
    endpoint = services.webhooks.get(project, endpoint_id)
    if serializers.mark_state(request, response, str(endpoint.version), settled=True):
        return Response(status_code=304, headers=dict(response.headers))
    return WebhookEndpointRead.model_validate(endpoint)


@router.patch("/{endpoint_id}")
def update_webhook_endpoint(
    request: Request,
    response: Response,
    endpoint_id: deps.EndpointId,
    body: WebhookEndpointUpdate,
    project: deps.Project,
    services: deps.ServicesDep,
    expected: deps.MatchDep,
) -> WebhookEndpointRead:
    """Change some fields."""
    endpoint = services.webhooks.change(project, endpoint_id, body.model_dump(exclude_unset=True), expected)
    serializers.mark_state(request, response, str(endpoint.version), settled=True)
    return WebhookEndpointRead.model_validate(endpoint)


@router.delete("/{endpoint_id}", status_code=204)
def delete_webhook_endpoint(
    endpoint_id: deps.EndpointId, project: deps.Project, services: deps.ServicesDep, expected: deps.MatchDep
) -> None:
    """Tell an address of nothing more; what was sent to it is forgotten."""
    services.webhooks.delete(project, endpoint_id, expected)


@router.post("/{endpoint_id}/rotate-secret", response_model=WebhookEndpointMade)
def rotate_webhook_secret(
    endpoint_id: deps.EndpointId,
    body: WebhookSecretRotate,
    project: deps.Project,
    services: deps.ServicesDep,
    expected: deps.MatchDep,
) -> Response:
    """Sign with a new secret; until the overlap is over, with the old one as well."""
    endpoint, secret = services.webhooks.rotate(project, endpoint_id, body.overlap_hours, expected)
    return _made(endpoint, secret, 200, {})


@router.post("/{endpoint_id}/ping", status_code=202, response_model=WebhookDeliveryRead)
def ping_webhook_endpoint(endpoint_id: deps.EndpointId, project: deps.Project, services: deps.ServicesDep) -> Response:
    """Send a message that says nothing (`webhook.ping`), to see whether it arrives."""
    return _queued(services.webhooks.ping(project, endpoint_id))


@router.get("/{endpoint_id}/deliveries")
def list_webhook_deliveries(
    request: Request,
    response: Response,
    endpoint_id: deps.EndpointId,
    project: deps.Project,
    services: deps.ServicesDep,
    state: Annotated[DeliveryState | None, Query()] = None,
    limit: deps.Limit = 50,
    after: deps.After = None,
) -> Page[WebhookDeliveryRead]:
    """Messages to an endpoint, newest first; those that ended are kept for 30 days."""
    before = pagination.id_cursor(after, "whd")
    rows = services.webhooks.deliveries(project, endpoint_id, state=state, before=before, limit=limit + 1)
    return serializers.page(request, response, rows, limit, _shown, lambda row: row.id)


@router.get("/{endpoint_id}/deliveries/{delivery_id}")
def get_webhook_delivery(
    endpoint_id: deps.EndpointId, delivery_id: deps.DeliveryId, project: deps.Project, services: deps.ServicesDep
) -> WebhookDeliveryRead:
    """One message, with how its sending went."""
    return _shown(services.webhooks.delivery(project, endpoint_id, delivery_id))


@router.post("/{endpoint_id}/deliveries/{delivery_id}/redeliver", status_code=202, response_model=WebhookDeliveryRead)
def redeliver_webhook(
    endpoint_id: deps.EndpointId, delivery_id: deps.DeliveryId, project: deps.Project, services: deps.ServicesDep
) -> Response:
    """Send a message again, under its old id."""
    return _queued(services.webhooks.redeliver(project, endpoint_id, delivery_id))
