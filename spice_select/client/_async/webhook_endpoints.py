"""Calls about webhook endpoints: addresses of yours that receive events."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from spice_select.client._async.transport import AsyncResource
from spice_select.client.answers import parse
from spice_select.client.request_bodies import as_json
from spice_select.client.webhook_models import WebhookDelivery, WebhookEndpoint

PATH = "/v1/webhook-endpoints"


def endpoint_path(endpoint_id: str) -> str:
    """Path of an endpoint."""
    return f"{PATH}/{quote(endpoint_id, safe='')}"


class AsyncWebhookEndpoints(AsyncResource):
    """Calls about webhook endpoints."""

    async def create(
        self, url: str, *, event_types: Sequence[str] | None = None, name: str | None = None
    ) -> WebhookEndpoint:
        """Make an endpoint; ``secret`` of the answer signs its messages, see ``webhooks.unwrap``.

        Args:
            url: An https address that takes POST.
            event_types: Of which events, such as ``job.succeeded``; the service's default when left out.
            name: For people.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        body = as_json({"url": url, "event_types": None if event_types is None else [*event_types], "name": name})
        return parse(await self._transport.send("POST", PATH, headers=headers, json=body), WebhookEndpoint)

    async def get(self, endpoint_id: str) -> WebhookEndpoint:
        """One endpoint, without its secret."""
        return await self._transport.fetch(endpoint_path(endpoint_id), WebhookEndpoint)

    def list(self) -> AsyncIterator[WebhookEndpoint]:
        """Every endpoint, newest first."""
        return self._transport.pages(PATH, WebhookEndpoint)

    async def update(self, endpoint_id: str, **changes: Any) -> WebhookEndpoint:
        """Change ``url``, ``event_types``, ``name`` or ``enabled``."""
        return parse(await self._transport.send("PATCH", endpoint_path(endpoint_id), json=changes), WebhookEndpoint)

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint: nothing more is sent to its address."""
        await self._transport.delete(endpoint_path(endpoint_id))

    async def rotate_secret(self, endpoint_id: str, *, overlap_hours: float = 24.0) -> WebhookEndpoint:
        """Sign with a new secret (in the answer), and with the old one as well until the overlap is over."""
        # Not repeated, because each call makes another secret.
        path, body = f"{endpoint_path(endpoint_id)}/rotate-secret", {"overlap_hours": overlap_hours}
        return parse(await self._transport.send("POST", path, json=body, retries=0), WebhookEndpoint)

    async def ping(self, endpoint_id: str) -> WebhookDelivery:
        """Have an empty message sent, to see whether it arrives."""
        return parse(
            await self._transport.send("POST", f"{endpoint_path(endpoint_id)}/ping", retries=0), WebhookDelivery
        )

    def deliveries(self, endpoint_id: str, *, state: str | None = None) -> AsyncIterator[WebhookDelivery]:
        """What was sent, newest first."""
        return self._transport.pages(f"{endpoint_path(endpoint_id)}/deliveries", WebhookDelivery, state=state)

    async def redeliver(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """Have a message sent again, under its old id."""
        path = f"{endpoint_path(endpoint_id)}/deliveries/{quote(delivery_id, safe='')}/redeliver"
        return parse(await self._transport.send("POST", path), WebhookDelivery)
