"""Queries on remembered Idempotency-Keys."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from app.persistence.repositories.rows import insert_unless_there, table_of
from app.persistence.session import LOCK_WAIT_MILLISECONDS
from app.persistence.tables import IdempotencyKey
from app.persistence.types import clock

PATIENCE_MILLISECONDS = 3000
"""How long a call waits for a competing one with the same key to be done; most are in milliseconds."""
LOCK_NOT_AVAILABLE = "55P03"

_TABLE = table_of(IdempotencyKey)
_GIVEN = ("project_id", "operation", "key", "request_sha256", "resource_id")


def _remember() -> ReturningInsert[tuple[str]]:
    """Take a key unless it is taken (PostgreSQL).

    The shorter patience begins and ends with this one statement. Without a row to return it stays, and then nothing
    follows that waits for a lock.
    """
    patience = select(func.set_config("lock_timeout", str(PATIENCE_MILLISECONDS), literal(value=True))).subquery()
    given = [bindparam(name, type_=_TABLE.c[name].type) for name in _GIVEN]
    return (
        postgresql.insert(_TABLE)
        .from_select([*_GIVEN, "created_at"], select(*given, clock()).select_from(patience))
        .on_conflict_do_nothing()
        .returning(func.set_config("lock_timeout", str(LOCK_WAIT_MILLISECONDS), literal(value=True)))
    )


_REMEMBER = _remember()


class KeyHeldError(Exception):
    """The first call with this key is still under way."""


class IdempotencyKeys:
    """Keys that clients gave with a POST."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def remember(self, project_id: str, operation: str, key: str, request_sha256: str, resource_id: str) -> bool:
        """Take the key for this resource; False when it is taken already.

        Raises:
            KeyHeldError: Another transaction has held it for longer than ``PATIENCE_MILLISECONDS`` (PostgreSQL only:
                on SQLite one writer waits for the other).
        """  # ruff: ignore[docstring-missing-exception] - the driver's own is passed on
        given = dict(zip(_GIVEN, (project_id, operation, key, request_sha256, resource_id), strict=True))
        if self.session.get_bind().dialect.name != "postgresql":
            return insert_unless_there(self.session, IdempotencyKey, {**given, "created_at": clock()})
        try:
            return self.session.execute(_REMEMBER, given).first() is not None
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise KeyHeldError from error
            raise

    def find(self, project_id: str, operation: str, key: str) -> IdempotencyKey | None:
        """The remembered call of this key."""
        query = select(IdempotencyKey).where(
            IdempotencyKey.project_id == project_id,
            IdempotencyKey.operation == operation,
            IdempotencyKey.key == key,
        )
        return self.session.scalars(query).one_or_none()

    def forget_older_than(self, seconds: float) -> None:
        """Drop keys past their time."""
        self.session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < clock(-seconds)))
