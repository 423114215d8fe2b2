"""Webhook endpoints: what comes back, and what each call does, for both clients."""

# ruff: file-ignore[return-in-generator] - an operation yields its steps and returns its result

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from spice_select.client.models import Answer
from spice_select.client.operations import parse
from spice_select.client.retry import Operation, Send, send

PATH = "/v1/webhook-endpoints"


class WebhookEndpoint(Answer):
    """An address that is told of events. ``secret`` is there when it was just made or rotated."""

    id: str
    url: str
    name: str | None = None
    event_types: list[str] = Field(default_factory=list)
    enabled: bool
    disabled_reason: str | None = None
    old_secret_until: datetime | None = None
    created_at: datetime | None = None
    version: int | None = None
    secret: str | None = None


class WebhookDelivery(Answer):
    """One message to an endpoint. ``state``: ``pending``, then ``delivered`` or ``failed``."""

    id: str
    endpoint_id: str
    event_id: int | None = None
    type: str
    body: str = ""
    state: str
    attempts: int = 0
    last_status: int | None = None
    last_error: str | None = None
    last_attempt_at: datetime | None = None
    next_attempt_at: datetime | None = None
    created_at: datetime | None = None


class EndpointOperations:
    """Every call about webhook endpoints, as an operation.

    Args:
        retries: How many times a request may be repeated.
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries

    def create(self, url: str, event_types: Sequence[str] | None, name: str | None) -> Operation[WebhookEndpoint]:
        """Make an endpoint under one key, so that repeating the call can never make a second one."""
        body = given(url=url, event_types=None if event_types is None else list(event_types), name=name)
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return parse((yield from send(Send("POST", PATH, headers=headers, json=body), self._retries)), WebhookEndpoint)

    def update(self, endpoint_id: str, changes: dict[str, Any]) -> Operation[WebhookEndpoint]:
        """Change some fields."""
        return parse(
            (yield from send(Send("PATCH", endpoint_path(endpoint_id), json=changes), self._retries)), WebhookEndpoint
        )

    def rotate(self, endpoint_id: str, overlap_hours: float) -> Operation[WebhookEndpoint]:
        """Sign with a new secret. Not repeated: each call makes another one."""
        request = Send("POST", f"{endpoint_path(endpoint_id)}/rotate-secret", json={"overlap_hours": overlap_hours})
        return parse((yield from send(request, 0)), WebhookEndpoint)

    def ping(self, endpoint_id: str) -> Operation[WebhookDelivery]:
        """Have a message sent that says nothing."""
        return parse((yield from send(Send("POST", f"{endpoint_path(endpoint_id)}/ping"), 0)), WebhookDelivery)

    def redeliver(self, endpoint_id: str, delivery_id: str) -> Operation[WebhookDelivery]:
        """Have a message sent again."""
        path = f"{deliveries_path(endpoint_id)}/{quote(delivery_id, safe='')}/redeliver"
        return parse((yield from send(Send("POST", path), self._retries)), WebhookDelivery)


def given(**fields: Any) -> dict[str, Any]:
    """Fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def endpoint_path(endpoint_id: str) -> str:
    """Path of an endpoint."""
    return f"{PATH}/{quote(endpoint_id, safe='')}"


def deliveries_path(endpoint_id: str) -> str:
    """Path of what was sent to an endpoint."""
    return f"{endpoint_path(endpoint_id)}/deliveries"
