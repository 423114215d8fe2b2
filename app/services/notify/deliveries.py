"""What the sender of webhooks does with the records: take a message that is due, sign it, write down how it went."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from sqlalchemy.orm import Session

from app.logs import get_logger
from app.persistence.repositories import Events, WebhookDeliveries, WebhookEndpoints
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import WebhookEndpoint
from app.services.access.secret_box import SecretBox
from app.settings import Settings
from app.status import DeliveryState

JITTER = 0.1
LONGEST_WAIT_SECONDS = 24 * 3600.0
LEASE_FACTOR = 2.0
WHY_GIVEN_UP = {
    "gone": "the endpoint answered 410 to another message",
    "failing": "the endpoint was switched off: another message never arrived in all its attempts",
}
"""What is said of messages that still waited when an endpoint was switched off, by the reason."""
KEPT_SECONDS = 30 * 86400.0


@dataclass(frozen=True)
class Message:
    """A message to be sent.

    Attributes:
        delivery_id: Its record; also the message id that stays the same however often it is sent.
        endpoint_id: Whom it goes to.
        project_id: Whose endpoint that is.
        epoch: Fences off whoever held it before.
        attempt: Counts from 1.
        url: Where to.
        body: Exact text that is signed and sent.
        secrets: Each signs; none when they cannot be decrypted.
    """

    delivery_id: str
    endpoint_id: str
    project_id: str
    epoch: int
    attempt: int
    url: str
    body: str
    secrets: tuple[str, ...]

    def headers(self, moment: datetime) -> dict[str, str]:
        """Headers of Standard Webhooks for an attempt at this moment, with a signature for each secret."""
        from standardwebhooks import Webhook

        signatures = [Webhook(secret).sign(self.delivery_id, moment, self.body) for secret in self.secrets]
        return {
            "Content-Type": "application/json",
            "webhook-id": self.delivery_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


@dataclass(frozen=True)
class Outcome:
    """How an attempt went.

    Attributes:
        status: HTTP status; None without an answer.
        error: Why there was none.
        retry_after: Seconds the receiver asked for; None when it did not.
    """

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None


class DeliveryService:
    """Messages of one service, for whoever sends them; any number of senders may run.

    Args:
        database: Where the records are.
        settings: For the schedule.
        box: For the secrets.
    """

    def __init__(self, database: Database, settings: Settings, box: SecretBox) -> None:
        self.database = database
        self.settings = settings
        self.box = box

    def claim(
        self,
        limit: int,
        busy: Mapping[str, str] = MappingProxyType({}),
        *,
        parked: Collection[str] = (),
        most_of_project: int | None = None,
    ) -> list[Message]:
        """Take messages that are due, one for each endpoint, of one project after the other.

        Args:
            limit: Most messages.
            busy: Endpoints this sender is already sending to, and the project of each.
            parked: Endpoints that are left alone for a while, because they were slow.
            most_of_project: Messages of one project that may be on their way at a time; None is any number.
        """
        under_way = Counter(busy.values())
        most = limit if most_of_project is None else most_of_project
        full = [project for project, count in under_way.items() if most_of_project is not None and count >= most]
        with self.database.read() as session:
            waiting = WebhookDeliveries(session).waiting_endpoints(limit, [*busy, *parked], full)
        messages: list[Message] = []
        for endpoint_id, project_id in waiting:
            if most_of_project is not None and under_way[project_id] >= most:
                continue
            message = self._claim(endpoint_id)
            if message is not None:
                messages.append(message)
                under_way[project_id] += 1
        return messages

    def _claim(self, endpoint_id: str) -> Message | None:
        with self.database.write() as session:
            endpoint = WebhookEndpoints(session).take(endpoint_id)
            if endpoint is None:
                return None
            lease = self.settings.webhook_timeout_seconds * LEASE_FACTOR
            delivery = WebhookDeliveries(session).claim(endpoint_id, lease)
            if delivery is None:
                return None
            return Message(
                delivery_id=delivery.id,
                endpoint_id=endpoint_id,
                project_id=endpoint.project_id,
                epoch=delivery.epoch,
                attempt=delivery.attempts,
                url=endpoint.url,
                body=delivery.body,
                secrets=self._secrets(endpoint, now(session)),
            )

    def _secrets(self, endpoint: WebhookEndpoint, moment: datetime) -> tuple[str, ...]:
        sealed = [endpoint.secret]
        if endpoint.old_secret and endpoint.old_secret_until and endpoint.old_secret_until > moment:
            sealed.append(endpoint.old_secret)
        return tuple(secret for one in sealed if (secret := self.box.open(one)) is not None)

    def settle(self, message: Message, outcome: Outcome) -> DeliveryState | None:
        """Write down how an attempt went, and when the next one is; None when somebody else has the message by now.

        2xx is success, 410 switches the endpoint off, anything else is tried again by the schedule, or later if the
        receiver says so. When the schedule is over and nothing has arrived there since the message was written, the
        endpoint is switched off as well.
        """
        reason = "gone" if outcome.status == 410 else None
        with self.database.write() as session:
            moment = now(session)
            if outcome.status is not None and 200 <= outcome.status < 300:
                state, not_before = DeliveryState.DELIVERED, moment
            elif reason is not None or message.attempt > len(self.settings.webhook_retry_seconds):
                state, not_before = DeliveryState.FAILED, moment
            else:
                state = DeliveryState.PENDING
                not_before = moment + timedelta(seconds=self._pause(message.attempt, outcome.retry_after))
            values = {
                "state": state,
                "not_before": not_before,
                "last_status": outcome.status,
                "last_error": outcome.error,
                "settled_at": None if state == DeliveryState.PENDING else moment,
            }
            deliveries = WebhookDeliveries(session)
            if not deliveries.settle(message.delivery_id, message.epoch, values):
                return None
            if state == DeliveryState.FAILED and reason is None and not deliveries.arrived_since(message.delivery_id):
                reason = "failing"
            if reason is not None:
                self._switch_off(session, message.endpoint_id, reason)
        return state

    @staticmethod
    def _switch_off(session: Session, endpoint_id: str, reason: str) -> None:
        endpoint = WebhookEndpoints(session).take(endpoint_id)
        if endpoint is None:
            return
        endpoint.enabled, endpoint.disabled_reason = False, reason
        endpoint.version += 1
        WebhookDeliveries(session).give_up(endpoint_id, WHY_GIVEN_UP[reason])
        data = {"endpoint_id": endpoint_id, "reason": reason}
        Events(session).append(endpoint.project_id, "webhook_endpoint.disabled", data=data)
        get_logger().warning("webhook_endpoint_disabled", **data)

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        planned = self.settings.webhook_retry_seconds[attempt - 1]
        planned *= 1 + JITTER * random.random()  # ruff: ignore[suspicious-non-cryptographic-random-usage] - spreads load
        return min(max(planned, retry_after or 0.0), LONGEST_WAIT_SECONDS * (1 + JITTER))

    def sweep(self) -> None:
        """Forget messages that ended a month ago."""
        with self.database.write() as session:
            WebhookDeliveries(session).forget_older_than(KEPT_SECONDS)


def utc_now() -> datetime:
    """The moment that a message is stamped with."""
    return datetime.now(UTC)
