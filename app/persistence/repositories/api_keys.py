"""Queries on API keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.tables import ApiKey
from app.persistence.types import clock


class ApiKeys:
    """API keys."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, key: ApiKey) -> None:
        """Insert a new key."""
        self.session.add(key)
        self.session.flush()

    def active(self, prefix: str) -> list[ApiKey]:
        """Keys of this prefix that are neither expired nor revoked."""
        query = select(ApiKey).where(ApiKey.prefix == prefix, *self._valid())
        return list(self.session.scalars(query))

    def active_of(self, key_id: str) -> ApiKey | None:
        """The key, if it is neither expired nor revoked; only for whoever has proven to hold it."""
        return self.session.scalars(select(ApiKey).where(ApiKey.id == key_id, *self._valid())).one_or_none()

    def any_active(self) -> bool:
        """Whether anybody could be let in."""
        return self.session.scalars(select(ApiKey.id).where(*self._valid()).limit(1)).first() is not None

    @staticmethod
    def _valid() -> tuple[ColumnElement[bool], ...]:
        return (
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > clock()),
            or_(ApiKey.revoked_at.is_(None), ApiKey.revoked_at > clock()),
        )

    def get(self, project_id: str | None, key_id: str) -> ApiKey | None:
        """One key; of any project when ``project_id`` is None, which only the command line may ask."""
        query = select(ApiKey).where(ApiKey.id == key_id)
        if project_id is not None:
            query = query.where(ApiKey.project_id == project_id)
        return self.session.scalars(query).one_or_none()

    def page(self, project_id: str | None, *, before: str | None, limit: int) -> list[ApiKey]:
        """Newest first, starting behind an id."""
        query = select(ApiKey)
        if project_id is not None:
            query = query.where(ApiKey.project_id == project_id)
        if before is not None:
            query = query.where(ApiKey.id < before)
        return list(self.session.scalars(query.order_by(ApiKey.id.desc()).limit(limit)))

    def end(self, key_id: str, moment: datetime) -> None:
        """Let a key end at a moment, unless it ends before."""
        earlier = or_(ApiKey.revoked_at.is_(None), ApiKey.revoked_at > moment)
        self.session.execute(update(ApiKey).where(ApiKey.id == key_id, earlier).values(revoked_at=moment))

    def used(self, key_id: str) -> None:
        """Note that a key was used just now."""
        self.session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=clock()))
