"""What several repositories share: bulk insert, insert-unless-there, conditions of lists, the database's now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, cast

from sqlalchemy import JSON, CursorResult, Insert, Select, Table, insert, literal, select, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.persistence.tables import Base, Dataset, Evaluation, Job
from app.persistence.types import clock

BATCH_ROWS = 5000


def now(session: Session) -> datetime:
    """The database's clock."""
    return session.scalars(select(clock())).one()


def batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut a stream of rows into lists of bounded size."""
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch


def table_of(mapped: type[Base]) -> Table:
    """The table behind a class."""
    return cast("Table", mapped.__table__)


@cache
def insert_into(table: type[Base], *stamps: str) -> Insert:
    """The insertion into a table, built once; by way of the class it would cost twice as much.

    Args:
        table: Where to.
        stamps: Columns that take the database's clock.
    """
    return insert(table_of(table)).values({name: clock() for name in stamps})


def insert_all(session: Session, table: type[Base], rows: Iterable[dict[str, Any]], *stamps: str) -> None:
    """Insert many rows, in batches, without holding them all; ``stamps`` are columns that take the database's clock."""
    for batch in batches(rows):
        session.execute(insert_into(table, *stamps), batch)


def insert_unless_there(session: Session, table: type[Base], row: dict[str, Any]) -> bool:
    """Insert a row unless its key is taken.

    Returns:
        Whether the row was inserted. On PostgreSQL a competing transaction is waited for, so that after False the
        other's row can be read.
    """
    statement = _insertion(session, table, row).on_conflict_do_nothing().returning(literal(1))
    return session.execute(statement).first() is not None


def insert_or_change(session: Session, table: type[Base], row: dict[str, Any], key: Sequence[str]) -> None:
    """Insert a row, or give the one of the same key its other values.

    Args:
        session: The transaction.
        table: Where to.
        row: Value of each column.
        key: The columns that are its key.
    """
    statement = _insertion(session, table, row)
    changed = {name: statement.excluded[name] for name in row if name not in key}
    session.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))


def _insertion(session: Session, table: type[Base], row: dict[str, Any]) -> postgresql.Insert | sqlite.Insert:
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table).values(**row)
    return sqlite.insert(table).values(**row)


def affected(result: Any) -> int:
    """Number of rows an UPDATE or DELETE touched."""
    return int(cast("CursorResult[Any]", result).rowcount)


@dataclass(frozen=True)
class ListFilter:
    """Filters of a list; None or empty allows all.

    Attributes:
        status: State.
        dataset_id: Data set, of jobs.
        metadata: Key-values that all have to be there.
        created_after: Made at this time or later.
        created_before: Made before this time.
    """

    status: str | None = None
    dataset_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None

    def applied(self, query: Select[Any], table: type[Job | Dataset | Evaluation]) -> Select[Any]:
        """The query, narrowed down."""
        if self.status is not None:
            query = query.where(table.status == self.status)
        if self.dataset_id is not None and table is Job:
            query = query.where(Job.dataset_id == self.dataset_id)
        for key, value in self.metadata.items():
            query = query.where(type_coerce(table.metadata_, JSON)[key].as_string() == value)
        if self.created_after is not None:
            query = query.where(table.created_at >= self.created_after)
        if self.created_before is not None:
            query = query.where(table.created_at < self.created_before)
        return query
