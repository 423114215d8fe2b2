"""Queries on who may do what: projects, their API keys, keys of calls already answered, ids that are gone."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, delete, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from app.persistence.repositories.rows import affected, insert_unless_there, table_of
from app.persistence.session import LOCK_WAIT_MILLISECONDS
from app.persistence.tables import ApiKey, DeletedId, EndedSession, IdempotencyKey, Project
from app.persistence.types import clock


class Projects:
    """Projects."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, project: Project) -> None:
        """Insert a new project."""
        self.session.add(project)
        self.session.flush()

    def get(self, project_id: str) -> Project | None:
        """One project."""
        return self.session.get(Project, project_id)

    def all(self) -> list[Project]:
        """Every project, oldest first."""
        return list(self.session.scalars(select(Project).order_by(Project.created_at, Project.id)))

    def limit(self, project_id: str, max_running_units: int | None) -> bool:
        """Set how many units of the project may run at a time; False when there is no such project."""
        statement = update(Project).where(Project.id == project_id).values(max_running_units=max_running_units)
        return affected(self.session.execute(statement)) == 1


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
        """Whether there is a valid key."""
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


class EndedSessions:
    """Sessions of the page that were ended before their time."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def end(self, id_: str, until: datetime) -> None:
        """Remember it until it would have ended by itself, and forget those whose time has come."""
        self.session.execute(delete(EndedSession).where(EndedSession.until < clock()))
        insert_unless_there(self.session, EndedSession, {"id": id_, "until": until})

    def has(self, id_: str) -> bool:
        """Whether it was ended."""
        return self.session.get(EndedSession, id_) is not None


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


class DeletedIds:
    """Ids of a project that were removed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def note(self, project_id: str, id_: str) -> None:
        """Remember an id; its row is locked or gone, so that nobody else notes it."""
        self.session.add(DeletedId(project_id=project_id, id=id_, deleted_at=clock()))

    def has(self, project_id: str, id_: str) -> bool:
        """Whether it was removed."""
        return self.session.get(DeletedId, (project_id, id_)) is not None
