"""Calls about webhook endpoints, of both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from spice_select.client._resource import AsyncResource, Group
from spice_select.client.endpoints import (
    PATH,
    EndpointOperations,
    WebhookDelivery,
    WebhookEndpoint,
    deliveries_path,
    endpoint_path,
)


class WebhookEndpoints(Group):
    """Calls about webhook endpoints: addresses of yours that are told of events."""

    @property
    def _calls(self) -> EndpointOperations:
        return EndpointOperations(self._operations.retries)

    def create(self, url: str, *, event_types: Sequence[str] | None = None, name: str | None = None) -> WebhookEndpoint:
        """Make an endpoint; ``secret`` of the answer signs its messages, see ``webhooks.unwrap``.

        Args:
            url: An https address that takes POST.
            event_types: Of which events, such as ``job.succeeded``; the service's default when left out.
            name: For people.
        """
        return self._transport.run(self._calls.create(url, event_types, name))

    def get(self, endpoint_id: str) -> WebhookEndpoint:
        """One endpoint, without its secret."""
        return self._transport.run(self._operations.fetch(endpoint_path(endpoint_id), WebhookEndpoint))

    def list(self) -> Iterator[WebhookEndpoint]:
        """Every endpoint, newest first."""
        return self._pages(PATH, WebhookEndpoint)

    def update(self, endpoint_id: str, **changes: Any) -> WebhookEndpoint:
        """Change ``url``, ``event_types``, ``name`` or ``enabled``."""
        return self._transport.run(self._calls.update(endpoint_id, changes))

    def delete(self, endpoint_id: str) -> None:
        """Tell an address of nothing more."""
        self._transport.run(self._operations.delete(endpoint_path(endpoint_id)))

    def rotate_secret(self, endpoint_id: str, *, overlap_hours: float = 24.0) -> WebhookEndpoint:
        """Sign with a new secret (in the answer), and with the old one until the overlap is over."""
        return self._transport.run(self._calls.rotate(endpoint_id, overlap_hours))

    def ping(self, endpoint_id: str) -> WebhookDelivery:
        """Have a message sent that says nothing, to see whether it arrives."""
        return self._transport.run(self._calls.ping(endpoint_id))

    def deliveries(self, endpoint_id: str, *, state: str | None = None) -> Iterator[WebhookDelivery]:
        """What was sent, newest first."""
        return self._pages(deliveries_path(endpoint_id), WebhookDelivery, state=state)

    def redeliver(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """Have a message sent again, under its old id."""
        return self._transport.run(self._calls.redeliver(endpoint_id, delivery_id))


class AsyncWebhookEndpoints(AsyncResource):
    """Calls about webhook endpoints, see ``WebhookEndpoints``."""

    @property
    def _calls(self) -> EndpointOperations:
        return EndpointOperations(self._operations.retries)

    async def create(
        self, url: str, *, event_types: Sequence[str] | None = None, name: str | None = None
    ) -> WebhookEndpoint:
        """Make an endpoint; ``secret`` of the answer signs its messages, see ``webhooks.unwrap``."""
        return await self._transport.run(self._calls.create(url, event_types, name))

    async def get(self, endpoint_id: str) -> WebhookEndpoint:
        """One endpoint, without its secret."""
        return await self._transport.run(self._operations.fetch(endpoint_path(endpoint_id), WebhookEndpoint))

    def list(self) -> AsyncIterator[WebhookEndpoint]:
        """Every endpoint, newest first."""
        return self._pages(PATH, WebhookEndpoint)

    async def update(self, endpoint_id: str, **changes: Any) -> WebhookEndpoint:
        """Change ``url``, ``event_types``, ``name`` or ``enabled``."""
        return await self._transport.run(self._calls.update(endpoint_id, changes))

    async def delete(self, endpoint_id: str) -> None:
        """Tell an address of nothing more."""
        await self._transport.run(self._operations.delete(endpoint_path(endpoint_id)))

    async def rotate_secret(self, endpoint_id: str, *, overlap_hours: float = 24.0) -> WebhookEndpoint:
        """Sign with a new secret (in the answer), and with the old one until the overlap is over."""
        return await self._transport.run(self._calls.rotate(endpoint_id, overlap_hours))

    async def ping(self, endpoint_id: str) -> WebhookDelivery:
        """Have a message sent that says nothing, to see whether it arrives."""
        return await self._transport.run(self._calls.ping(endpoint_id))

    def deliveries(self, endpoint_id: str, *, state: str | None = None) -> AsyncIterator[WebhookDelivery]:
        """What was sent, newest first."""
        return self._pages(deliveries_path(endpoint_id), WebhookDelivery, state=state)

    async def redeliver(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """Have a message sent again, under its old id."""
        return await self._transport.run(self._calls.redeliver(endpoint_id, delivery_id))
