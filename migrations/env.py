"""Run migrations against ``SPICE_DATABASE_URL`` (or the URL handed over by the caller)."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from app.persistence.session import Database
from app.persistence.tables import Base
from app.persistence.types import Instant, SafeJSON, SafeString, SafeText
from app.settings import Settings

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
            # A migration must not queue behind a long transaction while everything queues behind it.
            connection.execute(text("SET lock_timeout = '10s'"))
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_item=render_item,
            render_as_batch=database.is_sqlite,
            compare_type=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    database.dispose()


run()
