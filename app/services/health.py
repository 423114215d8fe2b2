"""Whether this process can serve."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.persistence.schema import differing_tables, newest_revision
from app.persistence.session import Database

ROOT = Path(__file__).resolve().parents[2]


class Health:
    """Readiness checks.

    Args:
        database: The service's database.
        worker_alive: Says whether the embedded worker process lives; None where workers are elsewhere.
    """

    def __init__(self, database: Database, worker_alive: Callable[[], bool] | None = None) -> None:
        self.database = database
        self.worker_alive = worker_alive
        self._own_tables = False

    @cached_property
    def head(self) -> str | None:
        """The migration that this code is written for; read when first asked for, as that takes a moment."""
        return newest_revision()

    def checks(self) -> dict[str, str | None]:
        """Name of each check to what is wrong, or None."""
        results: dict[str, str | None] = {"database": self._database()}
        if self.worker_alive is not None:
            results["worker"] = None if self.worker_alive() else "the embedded worker is not running"
        return results

    def _database(self) -> str | None:
        try:
            with self.database.engine.connect() as connection:
                at = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
                if at == self.head and not self._own_tables:
                    differing = differing_tables(connection)
                    self._own_tables = differing is None  # looked at once: tables change with a migration only
                    if differing is not None:
                        return differing
        except SQLAlchemyError as error:
            if isinstance(getattr(error, "orig", None), FileNotFoundError):
                return str(getattr(error, "orig", ""))
            return "it does not answer, or was never migrated"
        return None if at == self.head else f"migrations are at {at}, not at {self.head}"
