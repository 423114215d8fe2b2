"""Webhook endpoints and what was sent to them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.schemas.fields import Name
from app.status import TOLD_BY_DEFAULT, DeliveryState, ToldType
from spice_select.config import Model

Url = Annotated[str, Field(min_length=1, max_length=2000)]
EventTypes = Annotated[list[ToldType], Field(min_length=1, max_length=20)]


class WebhookEndpointCreate(Model):
    """Where to send messages, and of which events."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://hooks.example.org/spice", "event_types": ["job.succeeded", "job.failed"]}]
        }
    )

    url: Url
    """An https address that is reachable from the public network, or one that the operator listed."""
    event_types: EventTypes = Field(default_factory=lambda: list(TOLD_BY_DEFAULT))
    """Types of events to be told of."""
    name: Name | None = None
    """For people."""


class WebhookEndpointUpdate(Model):
    """What to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    url: Url | None = None
    event_types: EventTypes | None = None
    name: Name | None = None
    enabled: bool | None = None
    """False lets everything that waits fail; True starts again, also after a 410."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        given = self.model_fields_set
        if not given:
            raise ValueError("give at least one field to change")
        empty = [
            field for field in ("url", "event_types", "enabled") if field in given and getattr(self, field) is None
        ]
        if empty:
            raise ValueError(f"{empty[0]} cannot be null")
        return self


class WebhookEndpointRead(BaseModel):
    """A webhook endpoint; its secret is shown when it is made or rotated, and not here."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    name: str | None
    event_types: list[str]
    enabled: bool
    disabled_reason: str | None
    old_secret_until: datetime | None
    created_at: datetime
    version: int


class WebhookEndpointMade(WebhookEndpointRead):
    """A webhook endpoint with its secret."""

    secret: str


class WebhookSecretRotate(Model):
    """How long messages are signed with the old secret as well."""

    overlap_hours: Annotated[float, Field(ge=0, le=720)] = 24.0


class WebhookDeliveryRead(BaseModel):
    """One message to an endpoint; ``id`` is its ``webhook-id``, the same however often it is sent."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    event_id: int | None
    type: str
    body: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    created_at: datetime
    settled_at: datetime | None
