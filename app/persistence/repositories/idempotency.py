"""Queries on remembered Idempotency-Keys."""

from __future__ import annotations

from sqlalchemy import delete, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import insert_unless_there
from app.persistence.tables import IdempotencyKey
from app.persistence.types import clock

PATIENCE_MILLISECONDS = 3000
"""How long a call waits for a competing one with the same key to be done; most are in milliseconds."""
LOCK_NOT_AVAILABLE = "55P03"


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
        row = {
            "project_id": project_id,
            "operation": operation,
            "key": key,
            "request_sha256": request_sha256,
            "resource_id": resource_id,
            "created_at": clock(),
        }
        if self.session.get_bind().dialect.name != "postgresql":
            return insert_unless_there(self.session, IdempotencyKey, row)
        self.session.execute(text(f"SET LOCAL lock_timeout = {PATIENCE_MILLISECONDS}"))
        try:
            taken = insert_unless_there(self.session, IdempotencyKey, row)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise KeyHeldError from error
            raise
        self.session.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
        return taken

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
