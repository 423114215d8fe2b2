"""Sessions of the page: a signed word in a cookie that stands for an API key, which it never holds."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.ids import new_id
from app.persistence.repositories import EndedSessions
from app.services.access.keys import Caller, KeyService
from app.services.access.signed_links import own_secret

SECONDS = 12 * 3600
FILE = "page-session.key"


@dataclass(frozen=True)
class _Session:
    """What a session says: its own id, the key that it stands for, and the second (Unix time) in which it is over."""

    id: str
    key_id: str
    until: int


class Sessions:
    """Sessions of one service; every replica that shares the folder accepts them.

    A session ends after twelve hours, and at once when its holder logs out or its key expires or is revoked.

    Args:
        keys: Who may come in.
        folder: Where the signing secret is kept; made there on first use.
    """

    def __init__(self, keys: KeyService, folder: Path) -> None:
        self.keys = keys
        self.folder = folder

    def begin(self, secret: str) -> str | None:
        """A session for whoever shows an API key; None when it is not a valid one."""
        caller = self.keys.verify(secret.strip())
        if caller is None or caller.key_id is None:
            return None
        body = f"{new_id('ses')}.{caller.key_id}.{int(time.time()) + SECONDS}"
        return f"{body}.{self._sign(body)}"

    def caller(self, word: str) -> Caller | None:
        """Who holds a session; None when it is forged, over, ended, or its key is no longer valid."""
        read = self._read(word)
        return None if read is None else self.keys.holder(read.key_id, read.id)

    def end(self, word: str) -> None:
        """End a session on every replica, whoever has kept its cookie; a forged one ends nothing."""
        read = self._read(word)
        if read is not None:
            with self.keys.database.write() as session:
                EndedSessions(session).end(read.id, datetime.fromtimestamp(read.until, UTC))

    def _read(self, word: str) -> _Session | None:
        body, _, signature = word.rpartition(".")
        if not word.isascii() or not hmac.compare_digest(signature, self._sign(body)):
            return None
        parts = body.split(".")
        if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) <= time.time():
            return None
        return _Session(parts[0], parts[1], int(parts[2]))

    def _sign(self, body: str) -> str:
        return hmac.new(self._secret(), body.encode(), hashlib.sha256).hexdigest()

    def _secret(self) -> bytes:
        """The signing secret: the one that the first process made."""
        return own_secret(self.folder, FILE)
