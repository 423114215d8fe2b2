"""Ending every unit of a job or an evaluation that ends: those that wait and those that somebody still holds."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.tables import Evaluation, Job, Unit
from app.persistence.types import clock
from app.status import EVALUATING, TERMINAL, UnitKind, UnitState

OPEN = (UnitState.PENDING, UnitState.LEASED)


class OwnedUnits:
    """The units of one job or of one evaluation.

    Whoever is going to change several of them, or one of them and then what they belong to, locks the last of them
    first, the selection or the report: two who lock them in different orders would deadlock.

    Args:
        session: The running transaction.
        job_id: The job they belong to, or None.
        evaluation_id: The evaluation they belong to, or None.
    """

    def __init__(self, session: Session, *, job_id: str | None = None, evaluation_id: str | None = None) -> None:
        self.session = session
        # With neither, as for units that are nobody's own, there are none.
        self._mine: ColumnElement[bool] = or_(
            and_(Unit.job_id.is_not(None), Unit.job_id == job_id),
            and_(Unit.evaluation_id.is_not(None), Unit.evaluation_id == evaluation_id),
        )

    def lock_last(self) -> None:
        """Lock the unit that comes last until the transaction ends."""
        self._lock(UnitKind.SELECT, UnitKind.EVALUATION_REPORT)

    def close(self) -> None:
        """End all that wait or are held; whoever holds one is fenced off and told with the next heartbeat."""
        self.lock_last()
        # A plan that is being committed brings trainings: the next statement must see them.
        self._lock(UnitKind.EVALUATION_PLAN)
        statement = (
            update(Unit)
            .where(self._mine, Unit.state.in_(OPEN))
            .values(
                state=UnitState.DEAD,
                epoch=Unit.epoch + 1,
                error=None,
                owner=None,
                lease_until=None,
                notified_at=None,
                finished_at=clock(),
            )
        )
        self.session.execute(statement)

    def _lock(self, *kinds: UnitKind) -> None:
        self.session.execute(select(Unit.id).where(self._mine, Unit.kind.in_(kinds)).with_for_update())


def owners_that_ended(session: Session) -> list[tuple[str | None, str | None]]:
    """Jobs and evaluations that have ended and left a unit open, as (job id, evaluation id).

    There are none but those that an older version of the service ended.
    """
    over = or_(
        exists().where(Job.id == Unit.job_id, Job.status.in_(TERMINAL)),
        exists().where(Evaluation.id == Unit.evaluation_id, Evaluation.status.not_in(EVALUATING)),
    )
    query = select(Unit.job_id, Unit.evaluation_id).where(Unit.state.in_(OPEN), over).distinct()
    return [(job_id, evaluation_id) for job_id, evaluation_id in session.execute(query)]
