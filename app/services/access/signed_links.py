"""Signed links: an address that opens one file for a time, for tools that can send no API key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from app.errors import ServiceError
from app.settings import Settings

SECRET_FILE = "link-secret"  # ruff: ignore[hardcoded-password-string] - the name of a file
SECRET_BYTES = 32


class LinkError(ServiceError):
    """A link that opens nothing."""

    def __init__(self, detail: str) -> None:
        super().__init__("link-invalid", detail)


@dataclass(frozen=True)
class Link:
    """What a link opens.

    Attributes:
        project_id: Owner of the job.
        job_id: The job.
        name: File of its result.
        k: Only the first k picks; None for the whole file.
        expires: Last second (Unix time) in which it opens.
    """

    project_id: str
    job_id: str
    name: str
    k: int | None
    expires: int


class LinkSigner:
    """Makes and reads the tokens of links. Nothing is stored: the secret is what makes a token valid.

    Args:
        settings: For the secret and the longest life.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret: bytes | None = None

    def sign(self, project_id: str, job_id: str, name: str, k: int | None, seconds: float) -> tuple[str, Link]:
        """A token for a file and what it says; its life is cut at the longest allowed.

        Args:
            project_id: Owner of the job.
            job_id: The job.
            name: File of its result.
            k: Only the first k picks; None for the whole file.
            seconds: How long the link is to open.
        """
        expires = int(time.time() + min(seconds, self._settings.link_seconds))
        link = Link(project_id, job_id, name, k, expires)
        payload = f"{project_id}/{job_id}/{k or ''}/{expires}".encode()
        return f"{_text(payload)}.{_text(self._signature(payload, name))}", link

    def open(self, token: str, name: str) -> Link:
        """What a token opens.

        Raises:
            LinkError: It was not made here for this file name, or has expired.
        """
        payload, _, signature = token.partition(".")
        try:
            said, shown = _bytes(payload), _bytes(signature)
        except (binascii.Error, ValueError) as error:
            raise LinkError("the link is not one of this service") from error
        if not hmac.compare_digest(shown, self._signature(said, name)):
            raise LinkError("the link is not one of this service")
        project_id, job_id, k, expires = said.decode().split("/")
        if time.time() > int(expires):
            raise LinkError("the link has expired")
        return Link(project_id, job_id, name, int(k) if k else None, int(expires))

    def _signature(self, payload: bytes, name: str) -> bytes:
        if self._secret is None:
            given = self._settings.link_secret.get_secret_value()
            self._secret = given.encode() if given else own_secret(self._settings.data_dir)
        return hmac.digest(self._secret, payload + b"/" + name.encode(), hashlib.sha256)


def own_secret(data_dir: Path, name: str = SECRET_FILE, *, mode: int = 0o600) -> bytes:
    """A secret of a data folder, made when missing; every replica on the folder gets the same.

    Args:
        data_dir: The folder.
        name: Of the file.
        mode: Who may read it.

    Returns:
        At least ``SECRET_BYTES`` bytes.

    Raises:
        ServiceError: ``secret-unusable`` when the file is shorter: whoever guesses it could forge what it signs.
    """
    path = data_dir / name
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = data_dir / f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(SECRET_BYTES))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(draft, path)  # fails when another process was faster, whose secret then holds
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_bytes()
    if len(secret.strip()) < SECRET_BYTES:
        raise ServiceError(
            "secret-unusable",
            f"{name} in the data folder holds {len(secret)} bytes, fewer than {SECRET_BYTES}: "
            "remove the file, and the service makes another",
        )
    if path.stat().st_mode & 0o777 & ~mode:
        path.chmod(mode)
    return secret


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
