"""Engine and transactions: one ``read()`` or ``write()`` block is one transaction, on PostgreSQL and SQLite alike."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session

SQLITE_WAIT_SECONDS = 30
LOCK_WAIT_MILLISECONDS = 10_000
"""How long a statement waits for a lock (PostgreSQL)."""
LAST_USE = "last_use"
TRUSTED_SECONDS = 1.0
"""A pooled connection that was used this recently is not asked whether it still lives; a server that went away within
it costs one request an ``unavailable``, which may be repeated."""


class Database:
    """The service's database.

    Args:
        url: SQLAlchemy URL, ``postgresql+psycopg://...`` or ``sqlite:///...``.
        pool_size: Connections kept per process (PostgreSQL).
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": SQLITE_WAIT_SECONDS, "check_same_thread": False}
        else:
            options |= {"pool_size": pool_size, "max_overflow": pool_size, "pool_timeout": 5}
            # Every wait is bounded: a paused server must become a 503, not a hung request.
            options["connect_args"] = {
                "connect_timeout": 5,
                "options": f"-c lock_timeout={LOCK_WAIT_MILLISECONDS} -c statement_timeout=120000 -c timezone=UTC",
            }
        self.engine: Engine = create_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._reading = self.engine
        else:
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", self._ask_if_idle)
            # Statements of a READ COMMITTED transaction each see a state of their own anyway: BEGIN and COMMIT around
            # those that only read would be two more waits for nothing.
            self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self) -> Generator[Session]:
        """A transaction that may change rows; commits at the end of the block, rolls back on an exception."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            if self.is_sqlite:
                session.connection(execution_options={"spice_begin": "IMMEDIATE"})
            yield session

    @contextmanager
    def read(self) -> Generator[Session]:
        """Statements that only read; on SQLite they see one state."""
        with Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session

    def _ask_if_idle(self, connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get(LAST_USE, 0.0) <= TRUSTED_SECONDS:
            return
        dialect = self.engine.dialect
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the connection was lost while it was idle") from error

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _note_use(_connection: Any, record: Any) -> None:
    record.info[LAST_USE] = time.monotonic()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not open transactions by itself: it would make a read one that is later upgraded, and an
    # upgrade fails at once under contention instead of waiting.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("spice_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
