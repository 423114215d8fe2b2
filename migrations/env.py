"""Run migrations against ``SPICE_DATABASE_URL`` (or the URL handed over by the caller)."""

from __future__ import annotations

import time

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from app.persistence.session import Database
from app.persistence.tables import Base
from app.persistence.types import Instant, SafeJSON, SafeString, SafeText
from app.settings import Settings

PATIENCE_SECONDS = 60.0
"""How long a migration asks for its locks again, while programs of the version before work on the tables."""

PAUSE_SECONDS = 0.2
LOCK_TIMEOUT_MILLISECONDS = 500
"""Shorter than PostgreSQL's ``deadlock_timeout`` (1 s): in a deadlock it is the migration that lets go, never
a worker's commit; and nobody waits behind a waiting migration for longer."""

LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED = "55P03", "40P01"

config = context.config
url = config.attributes.get("url") or Settings().resolved_database_url


def render_item(kind, item, _context):
    """Spell our column types so that a migration stands on its own."""
    if kind == "type" and isinstance(item, SafeString):
        return f"sa.String(length={item.impl.length})"
    names = {SafeText: "sa.Text()", SafeJSON: "JSON", Instant: "sa.DateTime(timezone=True)"}
    return names.get(type(item), False) if kind == "type" else False


def run() -> None:
    if url.startswith("sqlite:///"):
        from pathlib import Path

        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    database = Database(url)
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}"))
            connection.commit()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not migrated(connection, render_as_batch=database.is_sqlite, last=time.monotonic() > deadline):
            time.sleep(PAUSE_SECONDS)
    database.dispose()


def migrated(connection: Connection, *, render_as_batch: bool, last: bool) -> bool:
    """Run the migrations from wherever the schema stands; false if a lock was not to be had.

    Each revision is a transaction: what an earlier try has finished is kept, and what it was in is as if never begun.

    Raises:
        OperationalError: Anything else, and a missing lock in the ``last`` try.
    """
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=render_item,
        render_as_batch=render_as_batch,
        compare_type=True,
        transaction_per_migration=True,
    )
    try:
        with context.begin_transaction():
            context.run_migrations()
    except OperationalError as error:
        if last or getattr(error.orig, "sqlstate", None) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED):
            raise
        return False
    return True


run()
