"""Queries on webhook endpoints and on what is sent to them.

A delivery is the same kind of record as a unit of work: claimed under a lease, fenced by an epoch. What is claimed
twice is sent twice, under the same message id.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.ids import new_id
from app.persistence.repositories.rows import affected, insert_all
from app.persistence.tables import WebhookDelivery, WebhookEndpoint
from app.persistence.types import clock
from app.status import DeliveryState

MOST_DETAIL_BYTES = 8000
"""A message is thin: whoever wants more than this asks the API."""

# Locked against being deleted before the messages to them are written; changing them is not in the way.
_LISTENING = (
    select(WebhookEndpoint.id, WebhookEndpoint.event_types)
    .where(WebhookEndpoint.project_id == bindparam("project_id"), WebhookEndpoint.enabled.is_(True))
    .order_by(WebhookEndpoint.id)
    .with_for_update(read=True, key_share=True)
)


@dataclass(frozen=True)
class WebhookMessage:
    """An event that endpoints may be told of."""

    id: int | None
    type: str
    job_id: str | None
    dataset_id: str | None
    evaluation_id: str | None
    data: Mapping[str, Any]
    created_at: datetime

    def body(self) -> str:
        """The message, as Standard Webhooks lays it out; its bytes never change, for they are signed again."""
        data: dict[str, Any] = {"event_id": self.id, "job_id": self.job_id, "dataset_id": self.dataset_id}
        data |= {"evaluation_id": self.evaluation_id} if self.evaluation_id is not None else {}
        detail = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        data["details"] = dict(self.data) if len(detail.encode()) <= MOST_DETAIL_BYTES else {"truncated": True}
        timestamp = self.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        message = {"type": self.type, "timestamp": timestamp, "data": data}
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


class WebhookEndpoints:
    """Endpoints; every read goes through the project."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, endpoint: WebhookEndpoint) -> None:
        """Insert a new endpoint."""
        self.session.add(endpoint)
        self.session.flush()

    def get(self, project_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint | None:
        """The endpoint, unless it is another project's; locked until the end of the transaction on demand."""
        query = select(WebhookEndpoint).where(
            WebhookEndpoint.id == endpoint_id, WebhookEndpoint.project_id == project_id
        )
        return self.session.scalars(query.with_for_update() if lock else query).one_or_none()

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[WebhookEndpoint]:
        """Newest first, starting behind an id."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
        if before is not None:
            query = query.where(WebhookEndpoint.id < before)
        return list(self.session.scalars(query.order_by(WebhookEndpoint.id.desc()).limit(limit)))

    def count(self, project_id: str) -> int:
        """How many a project has."""
        query = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
        return self.session.scalars(query).one()

    def remove(self, endpoint_id: str) -> None:
        """Take an endpoint away with everything that was sent to it."""
        self.session.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id))
        self.session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id))

    def listening(self, project_id: str) -> list[tuple[str, list[str]]]:
        """Enabled endpoints of a project: id and the types they want."""
        rows = self.session.execute(_LISTENING, {"project_id": project_id})
        return [(endpoint_id, types) for endpoint_id, types in rows]

    def take(self, endpoint_id: str) -> WebhookEndpoint | None:
        """An enabled endpoint, locked; None when another dispatcher is at it at this moment."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.enabled.is_(True))
        return self.session.scalars(query.with_for_update(skip_locked=True, key_share=True)).one_or_none()


class WebhookDeliveries:
    """Messages to endpoints."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, project_id: str, endpoint_ids: Sequence[str], message: WebhookMessage) -> list[str]:
        """Write one message for each endpoint; their ids."""
        body = message.body()
        rows: list[dict[str, Any]] = [
            {
                "id": new_id("whd"),
                "project_id": project_id,
                "endpoint_id": endpoint_id,
                "event_id": message.id,
                "type": message.type,
                "body": body,
                "state": DeliveryState.PENDING,
                "epoch": 0,
                "attempts": 0,
                "not_before": message.created_at,
                "created_at": message.created_at,
            }
            for endpoint_id in endpoint_ids
        ]
        insert_all(self.session, WebhookDelivery, rows)
        return [row["id"] for row in rows]

    def get(self, project_id: str, endpoint_id: str, delivery_id: str) -> WebhookDelivery | None:
        """One delivery of an endpoint."""
        query = select(WebhookDelivery).where(
            WebhookDelivery.id == delivery_id,
            WebhookDelivery.endpoint_id == endpoint_id,
            WebhookDelivery.project_id == project_id,
        )
        return self.session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def page(
        self, endpoint_id: str, *, state: DeliveryState | None, before: str | None, limit: int
    ) -> list[WebhookDelivery]:
        """Newest first, starting behind an id."""
        query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        if state is not None:
            query = query.where(WebhookDelivery.state == state)
        if before is not None:
            query = query.where(WebhookDelivery.id < before)
        return list(self.session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(limit)))

    def waiting_endpoints(
        self, limit: int, busy: Collection[str] = (), full: Collection[str] = ()
    ) -> list[tuple[str, str]]:
        """Endpoints that have something to be sent now, each with its project: projects in turn, longest wait first.

        Args:
            limit: Most endpoints.
            busy: Endpoints to leave out.
            full: Projects to leave out.
        """
        first = func.min(WebhookDelivery.not_before)
        turn = func.row_number().over(partition_by=WebhookDelivery.project_id, order_by=first)
        query = (
            select(WebhookDelivery.endpoint_id, WebhookDelivery.project_id)
            .where(*_due(), WebhookDelivery.endpoint_id.not_in(busy), WebhookDelivery.project_id.not_in(full))
            .group_by(WebhookDelivery.endpoint_id, WebhookDelivery.project_id)
            .order_by(turn, first)
            .limit(limit)
        )
        return [(endpoint_id, project_id) for endpoint_id, project_id in self.session.execute(query)]

    def claim(self, endpoint_id: str, lease_seconds: float) -> WebhookDelivery | None:
        """Take the oldest message that is due, under a lease; None while another one is on its way to the endpoint.

        The endpoint must be locked, so that messages to it go out one after the other, in the order of their events.
        """
        on_its_way = select(WebhookDelivery.id).where(
            WebhookDelivery.endpoint_id == endpoint_id,
            WebhookDelivery.state == DeliveryState.PENDING,
            WebhookDelivery.lease_until >= clock(),
        )
        if self.session.scalars(on_its_way.limit(1)).first() is not None:
            return None
        due = select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == endpoint_id, *_due())
        oldest = self.session.scalars(
            due.order_by(func.coalesce(WebhookDelivery.event_id, 0), WebhookDelivery.id).limit(1)
        ).first()
        if oldest is None:
            return None
        statement = (
            update(WebhookDelivery)
            .where(WebhookDelivery.id == oldest)
            .values(
                epoch=WebhookDelivery.epoch + 1,
                attempts=WebhookDelivery.attempts + 1,
                lease_until=clock(lease_seconds),
                last_attempt_at=clock(),
            )
            .returning(WebhookDelivery)
            .execution_options(populate_existing=True)
        )
        return self.session.scalars(statement).one()

    def settle(self, delivery_id: str, epoch: int, values: dict[str, Any]) -> bool:
        """Write down how an attempt ended; False when somebody else has taken it since."""
        statement = (
            update(WebhookDelivery)
            .where(
                WebhookDelivery.id == delivery_id,
                WebhookDelivery.epoch == epoch,
                WebhookDelivery.state == DeliveryState.PENDING,
            )
            .values(**values, lease_until=None)
        )
        return affected(self.session.execute(statement)) == 1

    def arrived_since(self, delivery_id: str) -> bool:
        """Whether the endpoint of a message has taken another one since the message was written."""
        this, other = aliased(WebhookDelivery), aliased(WebhookDelivery)
        query = select(other.id).where(
            this.id == delivery_id,
            other.endpoint_id == this.endpoint_id,
            other.state == DeliveryState.DELIVERED,
            other.settled_at >= this.created_at,
        )
        return self.session.scalars(query.limit(1)).first() is not None

    def give_up(self, endpoint_id: str, why: str) -> None:
        """Let everything that still waits for an endpoint fail."""
        self.session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.state == DeliveryState.PENDING)
            .values(state=DeliveryState.FAILED, last_error=why, lease_until=None, settled_at=clock())
        )

    def send_again(self, delivery_id: str) -> None:
        """Start over with a delivery that has ended; its message id stays, so that a receiver can know it again."""
        self.session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == delivery_id, WebhookDelivery.state != DeliveryState.PENDING)
            .values(state=DeliveryState.PENDING, attempts=0, not_before=clock(), lease_until=None, settled_at=None)
        )

    def forget_older_than(self, seconds: float) -> None:
        """Drop deliveries that ended long ago."""
        ended = WebhookDelivery.state != DeliveryState.PENDING
        self.session.execute(delete(WebhookDelivery).where(ended, WebhookDelivery.settled_at < clock(-seconds)))


def queue_deliveries(
    session: Session, project_id: str, listening: Sequence[tuple[str, list[str]]], message: WebhookMessage
) -> None:
    """Write the messages that an event causes, in the transaction that writes the event."""
    wanting = [endpoint_id for endpoint_id, types in listening if message.type in types]
    if wanting:
        WebhookDeliveries(session).add(project_id, wanting, message)


def _due() -> tuple[ColumnElement[bool], ...]:
    enabled = select(WebhookEndpoint.id).where(WebhookEndpoint.enabled.is_(True))
    return (
        WebhookDelivery.state == DeliveryState.PENDING,
        WebhookDelivery.not_before <= clock(),
        or_(WebhookDelivery.lease_until.is_(None), WebhookDelivery.lease_until < clock()),
        WebhookDelivery.endpoint_id.in_(enabled),
    )
