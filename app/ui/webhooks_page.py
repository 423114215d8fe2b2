"""Webhooks of a project as pages: made, changed, tested, paused, removed, with what was sent."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.api import deps, pagination
from app.api.schemas.webhooks import WebhookEndpointCreate, WebhookEndpointUpdate, WebhookSecretRotate
from app.api.services import Services
from app.errors import ServiceError
from app.ids import new_id
from app.persistence.tables import WebhookEndpoint
from app.services.access.keys import Caller
from app.status import TOLD_BY_DEFAULT, DeliveryState, ToldType
from app.ui.auth import SameOrigin, Visitor
from app.ui.form_fields import FormFields, accepted, first_of, number
from app.ui.pages import page
from spice_select.config import digest_of
from spice_select.errors import SpiceError

router = APIRouter(include_in_schema=False)

ENDPOINTS = 50
"""As many as a project may have."""
DELIVERIES = 20
EVENTS = [(word, "") for word in get_args(ToldType)]
LABELS = {"url": "Address", "name": "Name", "event_types": "Tell it of", "overlap_hours": "Overlap, hours"}
_field_of = first_of(LABELS)
REASONS = {
    "switched-off": "paused here",
    "gone": "its address answered 410",
    "failing": "nothing arrived there for long",
}

Text = Annotated[str, Form(max_length=4000)]
Types = Annotated[list[str] | None, Form(max_length=40)]


@router.get("/ui/webhook-endpoints")
def list_webhooks(visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Webhooks, newest first, and the form of another."""
    return _list(visitor, services, _blank())


@router.post("/ui/webhook-endpoints", dependencies=[SameOrigin])
def make_webhook(
    visitor: Visitor,
    services: deps.ServicesDep,
    url: Text = "",
    name: Text = "",
    event_types: Types = None,
    once: Text = "",
) -> Response:
    """Make a webhook; the secret that its messages are signed with is on the page that answers."""
    draft = _draft(url, name, event_types)
    draft.values["once"] = once
    body = {"url": url.strip(), "name": name.strip() or None, "event_types": event_types or []}
    asked = accepted(draft, WebhookEndpointCreate, body, _field_of)
    if asked is not None:
        try:
            key = f"{once[:60]}-{digest_of(body)}" if once else None  # sent twice, it is one webhook
            made = services.webhooks.create(visitor.project_id, asked.url, asked.event_types, name=asked.name, key=key)
            return _one(visitor, services, made[0], secret=made[1])
        except (ServiceError, SpiceError) as error:
            draft.refuse_all(error, _field_of)
    return _list(visitor, services, draft)


@router.get("/ui/webhook-endpoints/{endpoint_id}")
def show_webhook(endpoint_id: str, visitor: Visitor, services: deps.ServicesDep, after: deps.After = None) -> Response:
    """One webhook and the latest messages to it."""
    endpoint = services.webhooks.get(visitor.project_id, endpoint_id)
    return _one(visitor, services, endpoint, after=after)


@router.post("/ui/webhook-endpoints/{endpoint_id}/edit", dependencies=[SameOrigin])
def change_webhook(
    endpoint_id: str,
    visitor: Visitor,
    services: deps.ServicesDep,
    url: Text = "",
    name: Text = "",
    event_types: Types = None,
) -> Response:
    """Change address, name and events, or show again what was typed with what is wrong."""
    draft, endpoint = _draft(url, name, event_types), services.webhooks.get(visitor.project_id, endpoint_id)
    body = {"url": url.strip(), "name": name.strip() or None, "event_types": event_types or []}
    asked = accepted(draft, WebhookEndpointUpdate, body, _field_of)
    if asked is not None:
        try:
            services.webhooks.change(visitor.project_id, endpoint_id, asked.model_dump(exclude_unset=True), None)
            return _back(endpoint_id)
        except (ServiceError, SpiceError) as error:
            draft.refuse_all(error, _field_of)
    return _one(visitor, services, endpoint, draft=draft)


@router.post("/ui/webhook-endpoints/{endpoint_id}/pause", dependencies=[SameOrigin])
def pause_webhook(endpoint_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Tell it of nothing until it is resumed."""
    services.webhooks.change(visitor.project_id, endpoint_id, {"enabled": False}, None)
    return _back(endpoint_id)


@router.post("/ui/webhook-endpoints/{endpoint_id}/resume", dependencies=[SameOrigin])
def resume_webhook(endpoint_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Tell it of what happens from now on."""
    services.webhooks.change(visitor.project_id, endpoint_id, {"enabled": True}, None)
    return _back(endpoint_id)


@router.post("/ui/webhook-endpoints/{endpoint_id}/ping", dependencies=[SameOrigin])
def test_webhook(endpoint_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Send a message that says nothing."""
    services.webhooks.ping(visitor.project_id, endpoint_id)
    return _back(endpoint_id, "#deliveries")


@router.post("/ui/webhook-endpoints/{endpoint_id}/rotate-secret", dependencies=[SameOrigin])
def rotate_secret(endpoint_id: str, visitor: Visitor, services: deps.ServicesDep, overlap_hours: Text = "") -> Response:
    """Sign with a new secret, which is on the page that answers."""
    draft = FormFields({"overlap_hours": overlap_hours})
    hours = number(draft, "overlap_hours")
    body = {} if hours is None else {"overlap_hours": hours}
    asked = accepted(draft, WebhookSecretRotate, body, lambda _: "overlap_hours")
    if asked is None:
        endpoint = services.webhooks.get(visitor.project_id, endpoint_id)
        return _one(visitor, services, endpoint, rotating=draft)
    endpoint, secret = services.webhooks.rotate(visitor.project_id, endpoint_id, asked.overlap_hours, None)
    return _one(visitor, services, endpoint, secret=secret)


@router.post("/ui/webhook-endpoints/{endpoint_id}/delete", dependencies=[SameOrigin])
def delete_webhook(request: Request, endpoint_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Take a webhook away with what was sent to it."""
    services.webhooks.delete(visitor.project_id, endpoint_id, None)
    if "hx-request" in request.headers:
        return Response(headers={"HX-Redirect": "/ui/webhook-endpoints"})
    return RedirectResponse("/ui/webhook-endpoints", 303)


@router.post("/ui/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/redeliver", dependencies=[SameOrigin])
def send_again(endpoint_id: str, delivery_id: str, visitor: Visitor, services: deps.ServicesDep) -> Response:
    """Send a message again, under its old id."""
    services.webhooks.redeliver(visitor.project_id, endpoint_id, delivery_id)
    return _back(endpoint_id, "#deliveries")


def _back(endpoint_id: str, where: str = "") -> Response:
    return RedirectResponse(f"/ui/webhook-endpoints/{endpoint_id}{where}", 303)


def _blank() -> FormFields:
    return FormFields({"event_types": " ".join(TOLD_BY_DEFAULT), "once": new_id("page")})


def _draft(url: str, name: str, event_types: list[str] | None) -> FormFields:
    return FormFields({"url": url, "name": name, "event_types": " ".join(event_types or ())})


def _list(visitor: Caller, services: Services, draft: FormFields) -> Response:
    return page(
        "webhooks.html",
        http_status=422 if draft.errors else 200,
        visitor=visitor,
        draft=draft,
        endpoints=services.webhooks.page(visitor.project_id, before=None, limit=ENDPOINTS),
        events=EVENTS,
        labels=LABELS,
        reasons=REASONS,
    )


def _one(
    visitor: Caller,
    services: Services,
    endpoint: WebhookEndpoint,
    *,
    secret: str | None = None,
    draft: FormFields | None = None,
    rotating: FormFields | None = None,
    after: str | None = None,
) -> Response:
    before = pagination.id_cursor(after, "whd")
    rows = services.webhooks.deliveries(
        visitor.project_id, endpoint.id, state=None, before=before, limit=DELIVERIES + 1
    )
    values: dict[str, Any] = {
        "endpoint": endpoint,
        "secret": secret,
        "draft": draft or _draft(endpoint.url, endpoint.name or "", [str(each) for each in endpoint.event_types]),
        "rotating": rotating or FormFields({"overlap_hours": "24"}),
        "deliveries": rows[:DELIVERIES],
        "live": after is None and any(row.state == DeliveryState.PENDING for row in rows[:DELIVERIES]),
        "after": after,
        "next_cursor": pagination.encode_cursor(rows[DELIVERIES - 1].id) if len(rows) > DELIVERIES else None,
    }
    refused = values["draft"].errors or values["rotating"].errors
    return page(
        "webhook.html",
        http_status=422 if refused else 200,
        visitor=visitor,
        events=EVENTS,
        labels=LABELS,
        reasons=REASONS,
        **values,
    )
