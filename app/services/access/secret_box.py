"""Secrets that must stay readable, because messages are signed with them, and not lie in the database as they are."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from app.services.access.signed_links import own_secret
from app.settings import Settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_FILE = "webhook-key"


class SecretBox:
    """Encrypts (Fernet: AES-128-CBC with HMAC-SHA256) under a key that is not in the database.

    Args:
        settings: For the keys, separated by commas: the first encrypts, every one of them decrypts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def seal(self, secret: str) -> str:
        """The encrypted secret."""
        return self._fernet().encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str | None:
        """The secret; None when it was encrypted under a key that is not there any more."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet().decrypt(sealed.encode()).decode()
        except InvalidToken:
            return None

    def _fernet(self) -> MultiFernet:
        # Loaded on first use: neither the start of the API nor a service without endpoints needs it.
        from cryptography.fernet import Fernet, MultiFernet

        given = self._settings.webhook_key.get_secret_value()
        words = (
            [word.strip().encode() for word in given.split(",")]
            if given
            else [own_secret(self._settings.data_dir, KEY_FILE)]
        )
        return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(word).digest())) for word in words])
