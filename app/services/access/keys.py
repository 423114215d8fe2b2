"""API keys and projects: made, verified, rotated, revoked."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from app.errors import NotFoundError
from app.ids import DEFAULT_PROJECT, new_id
from app.logs import get_logger
from app.persistence.repositories import ApiKeys, EndedSessions, Projects
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import ApiKey, Project
from app.status import EVERYDAY

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH = 37
PREFIX_LENGTH = 12
REMEMBERED_SECONDS = 5.0
VALIDITY_SECONDS = 2.0
USED_SECONDS = 60.0
MOST_REMEMBERED = 10_000


@dataclass(frozen=True)
class Caller:
    """Who makes a request.

    Attributes:
        project_id: Owner of everything the caller sees.
        scopes: What the caller may do.
        key_id: The key; None for a caller on this machine that needs none.
    """

    project_id: str
    scopes: frozenset[str]
    key_id: str | None

    def may(self, scope: str) -> bool:
        """Whether a call that needs this scope is allowed; writing includes reading, ``admin`` everything."""
        return bool({scope, "admin", scope.replace(":read", ":write")} & self.scopes)


class NoKeyError(RuntimeError):
    """The service would let nobody in."""


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def new_secret() -> str:
    """A fresh key: ``spk_``, 37 random characters (220 bits), 6 characters of CRC-32 that scanners can check."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return f"spk_{body}{_checksum(body)}"


def well_formed(secret: str) -> bool:
    """Whether the text can be a key of ours at all."""
    body = secret[4:-6]
    return (
        secret.startswith("spk_") and len(body) == RANDOM_LENGTH and secret.isascii() and _checksum(body) == secret[-6:]
    )


def digest(secret: str) -> str:
    """What is stored of a key. It holds 220 random bits, so a plain SHA-256 cannot be searched backwards."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyService:
    """API keys of one service.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._known: dict[str, tuple[float, Caller]] = {}
        self._validity: dict[str, tuple[float, bool]] = {}
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    def refuse_unlocked(self, auth: str) -> None:
        """Refuse to start where nobody could be let in.

        Args:
            auth: The setting of that name.

        Raises:
            NoKeyError: Keys are asked for and none exists.
        """
        if auth != "keys":
            return
        try:
            with self.database.read() as session:
                if ApiKeys(session).any_active():
                    return
        except DBAPIError as error:
            # Requests answer 503 until the database is there; nobody is let in meanwhile.
            get_logger().warning("keys_not_checked", error=str(error))
            return
        raise NoKeyError("no API key exists: make one with `python -m app keys create --name first`")

    def remembered(self, secret: str) -> Caller | None:
        """Who showed this key a moment ago; asks no database."""
        with self._lock:
            until, caller = self._known.get(digest(secret), (0.0, None))
        return caller if until > time.monotonic() else None

    def verify(self, secret: str) -> Caller | None:
        """Who shows this key; None when it is not known, expired or revoked. Remembered for five seconds."""
        if not well_formed(secret):
            return None
        caller = self.remembered(secret)
        if caller is not None:
            return caller
        given, moment = digest(secret), time.monotonic()
        with self.database.read() as session:
            candidates = ApiKeys(session).active(secret[:PREFIX_LENGTH])
            match = next((key for key in candidates if hmac.compare_digest(key.sha256, given)), None)
            stamp = now(session)
        if match is None:
            return None
        if match.last_used_at is None or (stamp - match.last_used_at).total_seconds() > USED_SECONDS:
            with self.database.write() as session:
                ApiKeys(session).used(match.id)
        caller = Caller(match.project_id, frozenset(match.scopes), match.id)
        ends = [end for end in (match.expires_at, match.revoked_at) if end is not None]
        keep = min([REMEMBERED_SECONDS, *((end - stamp).total_seconds() for end in ends)])
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[given] = (moment + keep, caller)
        return caller

    def holder(self, key_id: str, session_id: str | None = None) -> Caller | None:
        """Who holds a key that is known to be theirs; None when it is not known, expired or revoked.

        Args:
            key_id: The key.
            session_id: Session of the page that stands for it; nobody holds one that was ended.
        """
        with self.database.read() as session:
            key = ApiKeys(session).active_of(key_id)
            if session_id is not None and EndedSessions(session).has(session_id):
                return None
        return None if key is None else Caller(key.project_id, frozenset(key.scopes), key.id)

    def known_validity(self, key_id: str) -> bool | None:
        """Whether a key was valid a moment ago; None when that is not remembered. Asks no database."""
        with self._lock:
            until, valid = self._validity.get(key_id, (0.0, False))
        return valid if until > time.monotonic() else None

    def still_valid(self, key_id: str) -> bool:
        """Whether a key is neither expired nor revoked, as it was two seconds ago at most.

        While the database does not answer, answers that are under way go on: nobody can be asked.
        """
        with self._asking:  # of a thousand streams of one key, one asks
            known = self.known_validity(key_id)
            if known is not None:
                return known
            moment = time.monotonic()
            try:
                with self.database.read() as session:
                    valid = ApiKeys(session).active_of(key_id) is not None
            except DBAPIError as error:
                get_logger().warning("key_not_checked", error=str(error))
                valid = True
            with self._lock:
                if len(self._validity) >= MOST_REMEMBERED:
                    self._validity.clear()
                self._validity[key_id] = (moment + VALIDITY_SECONDS, valid)
            return valid

    def create(
        self, project_id: str, name: str, scopes: Sequence[str] = EVERYDAY, days: float | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            project_id: Owner.
            name: For people.
            scopes: What it may do.
            days: Until it expires; None is never.

        Returns:
            The record, and the secret that is shown once.

        Raises:
            NotFoundError: There is no such project.
        """
        secret = new_secret()
        with self.database.write() as session:
            if Projects(session).get(project_id) is None:
                raise NotFoundError(f"project {project_id}")
            moment = now(session)
            key = ApiKey(
                id=new_id("key"),
                project_id=project_id,
                name=name,
                prefix=secret[:PREFIX_LENGTH],
                sha256=digest(secret),
                scopes=sorted(set(scopes)),
                created_at=moment,
                expires_at=None if days is None else moment + timedelta(days=days),
            )
            ApiKeys(session).add(key)
        return key, secret

    def page(self, project_id: str | None, *, before: str | None = None, limit: int = 1000) -> list[ApiKey]:
        """Keys, newest first."""
        with self.database.read() as session:
            return ApiKeys(session).page(project_id, before=before, limit=limit)

    def rotate(self, project_id: str | None, key_id: str, overlap_hours: float) -> tuple[ApiKey, str]:
        """Make a key with the rights of another, which ends after the overlap.

        Returns:
            The new record and its secret.

        Raises:
            NotFoundError: There is no such key, or it has ended: rotating must not bring it back.
        """
        with self.database.read() as session:
            old = ApiKeys(session).get(project_id, key_id)
            moment = now(session)
        if old is None or any(end is not None and end <= moment for end in (old.revoked_at, old.expires_at)):
            raise NotFoundError(f"API key {key_id[:100]} that is still valid")
        days = None if old.expires_at is None else (old.expires_at - old.created_at).total_seconds() / 86400
        made = self.create(old.project_id, old.name, [str(scope) for scope in old.scopes], days)
        with self.database.write() as session:
            ApiKeys(session).end(old.id, moment + timedelta(hours=overlap_hours))
        self._forget()
        return made

    def revoke(self, project_id: str | None, key_id: str) -> None:
        """End a key at once.

        Raises:
            NotFoundError: There is no such key.
        """
        with self.database.write() as session:
            keys = ApiKeys(session)
            if keys.get(project_id, key_id) is None:
                raise NotFoundError(f"API key {key_id[:100]}")
            keys.end(key_id, now(session))
        self._forget()

    def create_project(self, name: str, max_running_units: int | None = None) -> Project:
        """Make a project."""
        with self.database.write() as session:
            moment = now(session)
            made = Project(id=new_id("proj"), name=name, max_running_units=max_running_units, created_at=moment)
            Projects(session).add(made)
        return made

    def projects(self) -> list[Project]:
        """Every project, oldest first."""
        with self.database.read() as session:
            return Projects(session).all()

    def limit_project(self, project_id: str, max_running_units: int | None) -> None:
        """Set how many units of a project may run at a time; None is any number.

        Raises:
            NotFoundError: There is no such project.
        """
        with self.database.write() as session:
            if not Projects(session).limit(project_id or DEFAULT_PROJECT, max_running_units):
                raise NotFoundError(f"project {project_id}")

    def _forget(self) -> None:
        with self._lock:
            self._known.clear()
            self._validity.clear()
