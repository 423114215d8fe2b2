"""What several repositories share: bulk insert, insert-unless-there, conditions of lists, the database's now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, cast

from sqlalchemy import JSON, CursorResult, Insert, Select, Table, and_, func, insert, literal, or_, select, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.persistence.tables import Base, Dataset, Evaluation, Job
from app.persistence.types import clock, has_target
from app.status import Sort

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
    """Filters of a list, and its order; None or empty allows all.

    Attributes:
        status: State.
        dataset_id: Data set, of jobs.
        method: Method, of jobs.
        target: Name of a target, or the data set that is the target, of jobs.
        internal: Whether data sets that the service made for a job are wanted too.
        name: The whole name.
        text: Part of the name, in any case, or the id.
        metadata: Key-values that all have to be there.
        created_after: Made at this time or later.
        created_before: Made before this time.
        sort: Order.
        last_name: Name of the entry that the page starts behind, where they are in the order of names.
    """

    status: str | None = None
    dataset_id: str | None = None
    method: str | None = None
    target: str | None = None
    internal: bool = False
    name: str | None = None
    text: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    sort: Sort = "newest"
    last_name: str = ""

    def applied(self, query: Select[Any], table: type[Job | Dataset | Evaluation]) -> Select[Any]:
        """The query, narrowed down."""
        if self.status is not None:
            query = query.where(table.status == self.status)
        if table is Job:
            query = self._of_jobs(query)
        if table is Dataset and not self.internal:
            query = query.where(Dataset.internal.is_(False))
        if self.name is not None:
            query = query.where(table.name == self.name)
        if self.text is not None:
            words = func.lower(table.name).contains(self.text.lower(), autoescape=True)
            query = query.where(or_(words, table.name.contains(self.text, autoescape=True), table.id == self.text))
        for key, value in self.metadata.items():
            query = query.where(type_coerce(table.metadata_, JSON)[key].as_string() == value)
        if self.created_after is not None:
            query = query.where(table.created_at >= self.created_after)
        if self.created_before is not None:
            query = query.where(table.created_at < self.created_before)
        return query

    def _of_jobs(self, query: Select[Any]) -> Select[Any]:
        if self.dataset_id is not None:
            query = query.where(Job.dataset_id == self.dataset_id)
        if self.method is not None:
            query = query.where(type_coerce(Job.config, JSON)["selection"]["method"].as_string() == self.method)
        if self.target is not None:
            named = has_target(Job.config, literal(self.target))
            query = query.where(or_(named, Job.target_dataset_id == self.target))
        return query

    def page(
        self, query: Select[Any], table: type[Job | Dataset | Evaluation], before: str | None, limit: int
    ) -> Select[Any]:
        """The query of one page: narrowed down, in order, starting behind an entry.

        Args:
            query: What may be seen.
            table: Of what.
            before: Id of the last entry of the page before; None for the first page.
            limit: Most entries.
        """
        query = self.applied(query, table).limit(limit)
        if self.sort == "oldest":
            return (query if before is None else query.where(table.id > before)).order_by(table.id)
        if self.sort == "newest":
            return (query if before is None else query.where(table.id < before)).order_by(table.id.desc())
        name = func.coalesce(table.name, "")
        if before is not None:
            query = query.where(or_(name > self.last_name, and_(name == self.last_name, table.id < before)))
        return query.order_by(name, table.id.desc())
