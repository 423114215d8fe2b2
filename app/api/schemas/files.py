"""Files of a result, their digests, and links that open them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from spice_select.config import Model


class Digest(BaseModel):
    """Digest of bytes."""

    sha256: str


class FileRead(BaseModel):
    """One file of a result."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    media_type: str
    bytes: int
    sha256: str


class LinkCreate(Model):
    """How long a link opens, and how much of the file."""

    expires_in_seconds: Annotated[float, Field(ge=1, le=366 * 86400)] = 3600.0
    """Cut at the service's longest."""
    k: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Only the first k picks; all of them when left out."""


class LinkRead(BaseModel):
    """A link that opens a file without an API key."""

    object: Literal["link"] = "link"
    url: str
    expires_at: datetime
    name: str
    k: int | None
    bytes: int
    digest: Digest


class PublicKeyValue(BaseModel):
    """The key itself."""

    public: str
    """Hexadecimal."""


class SigningKeyRead(BaseModel):
    """A public key, in the form of securesystemslib and TUF."""

    keyid: str
    keytype: Literal["ed25519"]
    scheme: Literal["ed25519"]
    keyval: PublicKeyValue


class SigningKeysRead(BaseModel):
    """Every key whose signatures hold; the first one signs."""

    keys: list[SigningKeyRead]
