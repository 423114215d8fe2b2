"""Engine and transactions: one ``read()`` or ``write()`` block is one transaction, on PostgreSQL and SQLite alike."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.orm import Session

SQLITE_WAIT_SECONDS = 8
"""How long a transaction waits for the one that writes: a request is answered 503 within ten seconds."""
LOCK_WAIT_MILLISECONDS = 8_000
"""How long a statement waits for a lock (PostgreSQL)."""
POOL_WAIT_SECONDS = 5
"""How long a request waits for one of the process's connections."""
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
            if self.url.database not in {None, "", ":memory:"}:
                options["pool_timeout"] = POOL_WAIT_SECONDS
        else:
            options |= {"pool_size": pool_size, "max_overflow": pool_size, "pool_timeout": POOL_WAIT_SECONDS}
            # Every wait is bounded: a paused server must become a 503, not a hung request.
            options["connect_args"] = {
                "connect_timeout": 5,
                "options": f"-c lock_timeout={LOCK_WAIT_MILLISECONDS} -c statement_timeout=120000 -c timezone=UTC",
            }
        self.engine: Engine = create_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            if self.url.database not in {None, "", ":memory:"}:
                watch = _FileWatch(Path(str(self.url.database)))
                event.listen(self.engine, "do_connect", watch.before_connect)
                event.listen(self.engine, "connect", watch.after_connect)
                event.listen(self.engine, "begin", watch.check)
                event.listen(self.engine, "commit", watch.check)
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


class _FileWatch:
    """Whether the file of an SQLite database is still the one that was opened first.

    SQLite goes on with a file that was deleted or replaced under it: what is written then is lost with the process.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def before_connect(self, *_: Any) -> None:
        """SQLite would make an empty file in the place of the one that is gone."""
        self.check()

    def after_connect(self, *_: Any) -> None:
        """Remember the file."""
        if self._opened is None:
            self._opened = self._now()

    def check(self, *_: Any) -> None:
        """Refuse to go on.

        Raises:
            OperationalError: Another file lies there, or none.
        """
        if self._opened is not None and self._now() != self._opened:
            cause = FileNotFoundError(f"{self._path.name} was deleted or replaced under the service: restart it")
            raise OperationalError(None, None, cause)

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


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
