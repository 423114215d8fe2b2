"""Webhook endpoints and deliveries, as the service answers them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from spice_select.client.models import Answer


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
