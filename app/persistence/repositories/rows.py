"""Pieces that several repositories share: bulk insert, insert-unless-there, the database's now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, cast

from sqlalchemy import CursorResult, Insert, Table, insert, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.persistence.tables import Base
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
