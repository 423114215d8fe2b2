"""Use cases of webhook endpoints: make, show, change, rotate, ping, look at deliveries and send them again."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from app.errors import ConflictError, NotFoundError
from app.ids import new_id
from app.outbound import Guard
from app.persistence.repositories import DeletedIds, WebhookDeliveries, WebhookEndpoints
from app.persistence.repositories.rows import now
from app.persistence.repositories.webhooks import WebhookMessage
from app.persistence.session import Database
from app.persistence.tables import WebhookDelivery, WebhookEndpoint
from app.services.access.secret_box import SecretBox
from app.services.idempotency import replayed
from app.services.if_match import require_version
from app.status import PING, DeliveryState
from spice_select.config import digest_of

MOST_OF_PROJECT = 50
SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


class WebhookService:
    """Endpoints of one service.

    Args:
        database: Where the records are.
        box: For the secrets.
        guard: Which addresses may be told.
    """

    def __init__(self, database: Database, box: SecretBox, guard: Guard) -> None:
        self.database = database
        self.box = box
        self.guard = guard

    def create(
        self, project_id: str, url: str, event_types: Sequence[str], *, name: str | None, key: str | None
    ) -> tuple[WebhookEndpoint, str, bool]:
        """Make an endpoint.

        Args:
            project_id: Owner.
            url: Where messages are sent.
            event_types: Of which events.
            name: For people.
            key: Idempotency-Key.

        Returns:
            The endpoint, the secret its messages are signed with, and whether an earlier call had made it.

        Raises:
            ConflictError: The project has as many as it may.
            NotFoundError: The earlier call's endpoint is gone.
        """
        self.guard.check(url, pointer="#/url")
        endpoint_id, secret = new_id("whe"), new_secret()
        body = digest_of({"url": url, "event_types": list(event_types), "name": name})
        with self.database.write() as session:
            known = replayed(session, project_id, "POST /v1/webhook-endpoints", key, body, endpoint_id)
            endpoints = WebhookEndpoints(session)
            if known is not None:
                endpoint = endpoints.get(project_id, known)
                if endpoint is None:
                    raise NotFoundError(f"webhook endpoint {known}: it was made with this Idempotency-Key and deleted")
                return endpoint, self.box.open(endpoint.secret) or "", True
            if endpoints.count(project_id) >= MOST_OF_PROJECT:
                raise ConflictError(f"a project has at most {MOST_OF_PROJECT} webhook endpoints")
            made = WebhookEndpoint(
                id=endpoint_id,
                project_id=project_id,
                url=url,
                name=name,
                event_types=sorted(set(event_types)),
                enabled=True,
                secret=self.box.seal(secret),
                created_at=now(session),
            )
            endpoints.add(made)
        return made, secret, False

    def get(self, project_id: str, endpoint_id: str) -> WebhookEndpoint:
        """One endpoint."""
        with self.database.read() as session:
            return _find(WebhookEndpoints(session), project_id, endpoint_id)

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[WebhookEndpoint]:
        """Endpoints, newest first."""
        with self.database.read() as session:
            return WebhookEndpoints(session).page(project_id, before=before, limit=limit)

    def change(
        self, project_id: str, endpoint_id: str, changes: dict[str, Any], expected: frozenset[int] | None
    ) -> WebhookEndpoint:
        """Change some fields; enabling an endpoint that had answered 410 starts over.

        Args:
            project_id: Owner.
            endpoint_id: Which.
            changes: New values of ``url``, ``name``, ``event_types``, ``enabled``.
            expected: Versions that may be changed; None for any.
        """
        if "url" in changes:
            self.guard.check(changes["url"], pointer="#/url")
        with self.database.write() as session:
            endpoint = _find(WebhookEndpoints(session), project_id, endpoint_id, lock=True)
            require_version(endpoint.version, expected)
            for field, value in changes.items():
                setattr(endpoint, field, sorted(set(value)) if field == "event_types" else value)
            if "enabled" in changes:
                endpoint.disabled_reason = None if endpoint.enabled else "switched-off"
                if not endpoint.enabled:
                    WebhookDeliveries(session).give_up(endpoint_id, "the endpoint was switched off")
            endpoint.version += 1
        return endpoint

    def delete(self, project_id: str, endpoint_id: str, expected: frozenset[int] | None) -> None:
        """Take an endpoint away with what was sent to it. Again, it changes nothing.

        Raises:
            NotFoundError: There is none of this id in the project.
        """
        with self.database.write() as session:
            endpoints, removals = WebhookEndpoints(session), DeletedIds(session)
            endpoint = endpoints.get(project_id, endpoint_id, lock=True)
            if endpoint is None:
                if removals.has(project_id, endpoint_id):
                    return
                raise NotFoundError(f"webhook endpoint {endpoint_id[:100]}")
            require_version(endpoint.version, expected)
            endpoints.remove(endpoint_id)
            removals.note(project_id, endpoint_id)

    def rotate(
        self, project_id: str, endpoint_id: str, overlap_hours: float, expected: frozenset[int] | None
    ) -> tuple[WebhookEndpoint, str]:
        """Sign with a new secret, and with the old one too until the overlap is over.

        Returns:
            The endpoint and its new secret.
        """
        secret = new_secret()
        with self.database.write() as session:
            endpoint = _find(WebhookEndpoints(session), project_id, endpoint_id, lock=True)
            require_version(endpoint.version, expected)
            endpoint.old_secret = endpoint.secret if overlap_hours else None
            endpoint.old_secret_until = now(session) + timedelta(hours=overlap_hours) if overlap_hours else None
            endpoint.secret = self.box.seal(secret)
            endpoint.version += 1
        return endpoint, secret

    def ping(self, project_id: str, endpoint_id: str) -> WebhookDelivery:
        """Queue a message that says nothing, to see whether it arrives.

        Raises:
            ConflictError: The endpoint is switched off.
        """
        with self.database.write() as session:
            endpoint = _find(WebhookEndpoints(session), project_id, endpoint_id)
            if not endpoint.enabled:
                raise ConflictError("the endpoint is switched off: enable it first")
            message = WebhookMessage(
                id=None, type=PING, job_id=None, dataset_id=None, evaluation_id=None, data={}, created_at=now(session)
            )
            deliveries = WebhookDeliveries(session)
            (made,) = deliveries.add(project_id, [endpoint_id], message)
            return _delivery(deliveries, project_id, endpoint_id, made)

    def deliveries(
        self, project_id: str, endpoint_id: str, *, state: DeliveryState | None, before: str | None, limit: int
    ) -> list[WebhookDelivery]:
        """Messages to an endpoint, newest first."""
        with self.database.read() as session:
            _find(WebhookEndpoints(session), project_id, endpoint_id)
            return WebhookDeliveries(session).page(endpoint_id, state=state, before=before, limit=limit)

    def delivery(self, project_id: str, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """One message to an endpoint."""
        with self.database.read() as session:
            return _delivery(WebhookDeliveries(session), project_id, endpoint_id, delivery_id)

    def redeliver(self, project_id: str, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """Send a message again, under its old id; one that is still to be sent stays as it is.

        Raises:
            ConflictError: The endpoint is switched off.
        """
        with self.database.write() as session:
            endpoint = _find(WebhookEndpoints(session), project_id, endpoint_id)
            deliveries = WebhookDeliveries(session)
            _delivery(deliveries, project_id, endpoint_id, delivery_id)
            if not endpoint.enabled:
                raise ConflictError("the endpoint is switched off: enable it first")
            deliveries.send_again(delivery_id)
            return _delivery(deliveries, project_id, endpoint_id, delivery_id)


def _find(endpoints: WebhookEndpoints, project_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    endpoint = endpoints.get(project_id, endpoint_id, lock=lock)
    if endpoint is None:
        raise NotFoundError(f"webhook endpoint {endpoint_id[:100]}")
    return endpoint


def _delivery(deliveries: WebhookDeliveries, project_id: str, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
    delivery = deliveries.get(project_id, endpoint_id, delivery_id)
    if delivery is None:
        raise NotFoundError(f"delivery {delivery_id[:100]}")
    return delivery
