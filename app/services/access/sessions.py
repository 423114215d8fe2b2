"""Sessions of the page: a signed word in a cookie that stands for an API key, which it never holds."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path

from app.services.access.keys import Caller, KeyService
from app.services.access.signed_links import own_secret

SECONDS = 12 * 3600
FILE = "page-session.key"


class Sessions:
    """Sessions of one service; every replica that shares the folder accepts them.

    A session ends after twelve hours, and at once when its key expires or is revoked.

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
        body = f"{caller.key_id}.{int(time.time()) + SECONDS}"
        return f"{body}.{self._sign(body)}"

    def caller(self, word: str) -> Caller | None:
        """Who holds a session; None when it is forged, over, or its key is no longer valid."""
        body, _, signature = word.rpartition(".")
        key_id, _, until = body.partition(".")
        if not word.isascii() or not hmac.compare_digest(signature, self._sign(body)):
            return None
        if not until.isdecimal() or int(until) <= time.time():
            return None
        return self.keys.holder(key_id)

    def _sign(self, body: str) -> str:
        return hmac.new(self._secret(), body.encode(), hashlib.sha256).hexdigest()

    def _secret(self) -> bytes:
        """The signing secret: the one that the first process made."""
        return own_secret(self.folder, FILE)
