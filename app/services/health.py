"""Whether this process can serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from app.persistence.schema import OwnTables
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
        self.tables = OwnTables(database)

    def checks(self) -> dict[str, str | None]:
        """Name of each check to what is wrong, or None."""
        results: dict[str, str | None] = {"database": self._database()}
        if self.worker_alive is not None:
            results["worker"] = None if self.worker_alive() else "the embedded worker is not running"
        return results

    def _database(self) -> str | None:
        try:
            at, refusal = self.tables.revision(), self.tables.refusal()
        except SQLAlchemyError as error:
            if isinstance(getattr(error, "orig", None), FileNotFoundError):
                return str(getattr(error, "orig", ""))
            return "it does not answer, or was never migrated"
        return refusal if at == self.tables.head else f"migrations are at {at}, not at {self.tables.head}"

    def of_another_build(self, error: Exception) -> str | None:
        """Whether a statement failed because the tables are those of another build: a sentence, or None.

        Args:
            error: What the statement failed with. A database that does not answer is not asked again.
        """
        words = ("no such table", "no such column", "has no column", "NOT NULL constraint")
        if not (isinstance(error, ProgrammingError | IntegrityError) or any(word in str(error) for word in words)):
            return None
        try:
            refusal = self.tables.refusal()
        except SQLAlchemyError:
            return None
        return None if refusal is None else f"the database is not served: {refusal}"
