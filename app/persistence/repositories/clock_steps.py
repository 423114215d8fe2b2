"""What a step of the database's clock leaves behind: records that say what is due, of a time that is still to come.

Leases, pauses and notifications are moments of that clock. When it is set back by an hour, whatever was written before
would stand still for an hour; nothing can be further ahead than its own longest pause, so what is gets cut.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import affected
from app.persistence.tables import Base, Unit, WebhookDelivery
from app.persistence.types import clock
from app.status import DeliveryState, UnitState

SLACK_SECONDS = 5.0
"""Statements of one moment may differ by this much."""


def seconds_ahead(session: Session) -> float:
    """How far the latest moment on record, of what has not ended, is ahead of the clock; 0 while that only advances."""
    units = (Unit.created_at, Unit.heartbeat_at, Unit.notified_at)
    goes_on = Unit.state.in_((UnitState.PENDING, UnitState.LEASED))
    found = session.execute(
        select(
            *(select(func.max(column)).where(goes_on).scalar_subquery() for column in units),
            select(func.max(WebhookDelivery.created_at))
            .where(WebhookDelivery.state == DeliveryState.PENDING)
            .scalar_subquery(),
            clock(),
        )
    ).one()
    *latest, moment = found
    return float(max((one - moment).total_seconds() for one in (*latest, moment) if one is not None))


def undo_step(session: Session, lease_seconds: float, longest_pause: float, sending_seconds: float) -> int:
    """Cut what is further ahead than it can be; how many records there were.

    Args:
        session: An open session.
        lease_seconds: Lease of a unit.
        longest_pause: Longest wait of a unit before another attempt.
        sending_seconds: Lease of a message to a webhook endpoint.
    """
    waits, held = Unit.state == UnitState.PENDING, Unit.state == UnitState.LEASED
    pending = WebhookDelivery.state == DeliveryState.PENDING
    attempted = WebhookDelivery.last_attempt_at
    never, later = attempted.is_(None), attempted > clock(SLACK_SECONDS)
    steps: tuple[tuple[type[Base], Any, dict[str, Any]], ...] = (
        (Unit, and_(waits, Unit.not_before > clock(longest_pause + SLACK_SECONDS)), {"not_before": clock()}),
        (Unit, and_(or_(waits, held), Unit.notified_at > clock(SLACK_SECONDS)), {"notified_at": None}),
        (
            Unit,
            and_(held, Unit.lease_until > clock(lease_seconds + SLACK_SECONDS)),
            {"lease_until": clock(lease_seconds)},
        ),
        (
            WebhookDelivery,
            and_(pending, WebhookDelivery.not_before > clock(SLACK_SECONDS), or_(never, later)),
            {"not_before": clock()},
        ),
        (
            WebhookDelivery,
            and_(pending, WebhookDelivery.lease_until > clock(sending_seconds + SLACK_SECONDS)),
            {"lease_until": clock(sending_seconds)},
        ),
    )
    return sum(
        affected(session.execute(update(table).where(condition).values(**values))) for table, condition, values in steps
    )
