"""Queries on the append-only history.

Numbers of events are read as cursors, so that within a project they must become visible in ascending order: a number
that is taken early and committed late would be stepped over by whoever reads on from a later one. Events are therefore
written at the very end of a transaction, under a lock of the project that is held until the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import and_, bindparam, event, func, insert, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from app.persistence.repositories.rows import insert_into, table_of
from app.persistence.repositories.webhooks import Told, WebhookEndpoints, tell
from app.persistence.tables import Event
from app.persistence.types import clock

PENDING = "pending_events"
LOCK_CLASS = 0x5350
"""First half of the advisory lock's key, so that it meets no other use of such locks."""

_TABLE = table_of(Event)
_GIVEN = ("project_id", "job_id", "dataset_id", "evaluation_id", "type", "data")
_INSERT = insert_into(Event, "created_at").returning(_TABLE.c.id, _TABLE.c.created_at)


def _insert_locked() -> ReturningInsert[tuple[int, datetime]]:
    """Lock the project and write the event, in one statement: its number is drawn for the row that the lock brings."""
    lock = select(func.pg_advisory_xact_lock(LOCK_CLASS, func.hashtext(bindparam("project_id")))).subquery()
    given = [bindparam(name, type_=_TABLE.c[name].type) for name in _GIVEN]
    source = select(*given, clock()).select_from(lock)
    return insert(_TABLE).from_select([*_GIVEN, "created_at"], source).returning(_TABLE.c.id, _TABLE.c.created_at)


_INSERT_LOCKED = _insert_locked()


class Events:
    """History of jobs and data sets."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def append(
        self,
        project_id: str,
        type_: str,
        *,
        job_id: str | None = None,
        dataset_id: str | None = None,
        evaluation_id: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Write one line of history, in the last step of the transaction."""
        pending = self.session.info.get(PENDING)
        if pending is None:
            pending = self.session.info[PENDING] = []
            event.listen(self.session, "before_commit", _write_pending, once=True)
        values = {"project_id": project_id, "job_id": job_id, "dataset_id": dataset_id, "type": type_}
        values["evaluation_id"] = evaluation_id
        pending.append({**values, "data": data or {}})

    def page(
        self,
        project_id: str,
        *,
        after: int,
        limit: int,
        job_id: str | None = None,
        dataset_id: str | None = None,
        evaluation_id: str | None = None,
        types: Sequence[str] = (),
    ) -> list[Event]:
        """Events of a project, or of one of its jobs, data sets or evaluations, behind a number, oldest first."""
        query = select(Event).where(Event.project_id == project_id, Event.id > after)
        if job_id is not None:
            query = query.where(Event.job_id == job_id)
        if dataset_id is not None:
            query = query.where(Event.dataset_id == dataset_id)
        if evaluation_id is not None:
            query = query.where(Event.evaluation_id == evaluation_id)
        if types:
            query = query.where(Event.type.in_(types))
        return list(self.session.scalars(query.order_by(Event.id).limit(limit)))

    def behind(self, cursors: Mapping[str, int], limit: int) -> list[Event]:
        """The next events of several projects, each behind its own number, in one query."""
        places = [and_(Event.project_id == project, Event.id > number) for project, number in cursors.items()]
        return list(self.session.scalars(select(Event).where(or_(*places)).order_by(Event.id).limit(limit)))

    def last(self, project_id: str) -> int:
        """Number of the project's latest event; 0 without one."""
        return self.session.scalar(select(func.max(Event.id)).where(Event.project_id == project_id)) or 0


def _write_pending(session: Session) -> None:
    session.flush()
    # Sorted, and the last locks that any transaction takes: two of them cannot wait for each other.
    pending = sorted(session.info.pop(PENDING), key=itemgetter("project_id"))
    projects = dict.fromkeys(values["project_id"] for values in pending)
    # Whatever can be read before the lock is: between it and the end of the commit a project stands still.
    listening = {project_id: WebhookEndpoints(session).listening(project_id) for project_id in projects}
    statement = _INSERT_LOCKED if session.get_bind().dialect.name == "postgresql" else _INSERT
    for values in pending:
        number, moment = session.execute(statement, values).one()
        project_id, shown = values["project_id"], {name: values[name] for name in _GIVEN if name != "project_id"}
        tell(session, project_id, listening[project_id], Told(id=number, created_at=moment, **shown))
