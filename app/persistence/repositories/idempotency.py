"""Queries on remembered Idempotency-Keys."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import insert_unless_there
from app.persistence.tables import IdempotencyKey
from app.persistence.types import clock


class IdempotencyKeys:
    """Keys that clients gave with a POST."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def remember(self, project_id: str, operation: str, key: str, request_sha256: str, resource_id: str) -> bool:
        """Take the key for this resource; False when it is taken already."""
        row = {
            "project_id": project_id,
            "operation": operation,
            "key": key,
            "request_sha256": request_sha256,
            "resource_id": resource_id,
            "created_at": clock(),
        }
        return insert_unless_there(self.session, IdempotencyKey, row)

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
