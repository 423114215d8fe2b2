"""The migrations of the database: where they are, which is the newest, bringing a database there, and its columns.

They lie beside the package ``app``, in a checkout, an image and an installed distribution alike.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from app.logs import get_logger
from app.persistence.session import Database
from app.persistence.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

LOG_SECONDS = 60.0
"""Least time between two lines of the log about tables of another build."""
MOST_NAMED = 3
"""Tables that a refusal names; the rest it counts."""


class OtherBuildError(RuntimeError):
    """The tables are not those of this build, though their migration is."""


def alembic_config(url: str | None = None) -> Config:
    """How Alembic finds the migrations. Imports Alembic, which takes a moment, only when called.

    Args:
        url: Database to migrate; None takes that of the settings.
    """
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if url is not None:
        config.attributes["url"] = url
    return config


def newest_revision() -> str | None:
    """The migration that this code is written for."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def differing_tables(connection: Connection) -> str | None:
    """Whether the tables are those of another build of this version; None where they are of this one.

    The first migration is edited in place until a version is out: two builds before it make other tables under the same
    revision. A column that is there and is not known is in the way only where a new row must fill it.

    Args:
        connection: To a database whose migration is the newest.

    Returns:
        A sentence that names tables and columns, and what to do.
    """
    there = {name: columns for (_, name), columns in inspect(connection).get_multi_columns().items()}
    found: list[str] = []
    for table in Base.metadata.sorted_tables:
        if table.name not in there:
            found.append(f"table {table.name} is missing")
            continue
        have = {column["name"]: column for column in there[table.name]}
        lacking = [name for name in table.columns.keys() if name not in have]  # ruff: ignore[in-dict-keys] - not a dict
        unknown = [
            name
            for name, column in have.items()
            if name not in table.columns and not column["nullable"] and column["default"] is None
        ]
        if lacking:
            found.append(f"table {table.name} has no column {', '.join(lacking)}")
        if unknown:
            found.append(f"table {table.name} wants a value for {', '.join(unknown)}, unknown here")
    if not found:
        return None
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return (
        f"its tables were made by another build of this unreleased version ({'; '.join(found[:MOST_NAMED])}{more}): go "
        "back to that build, or take an empty data folder (--data-dir, SPICE_DATA_DIR) or an empty database "
        "(SPICE_DATABASE_URL)"
    )


class OwnTables:
    """Whether the tables are those of this build; once they are, they are for good: they change with a migration only.

    Args:
        database: The service's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._own = False
        self._logged_at = -LOG_SECONDS

    @cached_property
    def head(self) -> str | None:
        """The migration that this code is written for; read when first asked for, as that takes a moment."""
        return newest_revision()

    def revision(self) -> str | None:
        """The migration that the database is at; None where it was never migrated."""
        with self._database.engine.connect() as connection:
            at: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
            return at

    def refusal(self) -> str | None:
        """What is wrong with the tables, in a sentence; None for those of this build, and of a newer release.

        Raises:
            SQLAlchemyError: The database does not answer, or was never migrated.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the driver
        if self._own or self.revision() != self.head:
            return None  # an older program goes on while a newer release is rolled out
        with self._database.engine.connect() as connection:
            differing = differing_tables(connection)
        self._own = differing is None
        return differing

    def are_own(self) -> bool:
        """Whether there is no refusal; the log says why not, at most once a minute."""
        refusal = self.refusal()
        if refusal is not None and time.monotonic() - self._logged_at >= LOG_SECONDS:
            self._logged_at = time.monotonic()
            get_logger().error("tables_of_another_build", detail=f"nothing is taken or removed here: {refusal}")
        return refusal is None


def migrate(url: str | None = None) -> None:
    """Bring a database to the newest migration.

    Args:
        url: Of the database; None takes that of the settings.

    Raises:
        OtherBuildError: It is at the newest one, with the tables of another build.
    """
    from alembic import command

    from app.settings import Settings

    url = url or Settings().resolved_database_url
    command.upgrade(alembic_config(url), "head")
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            differing = differing_tables(connection)
    finally:
        database.dispose()
    if differing is not None:
        raise OtherBuildError(f"the database {database.url.render_as_string()} is not served: {differing}")
