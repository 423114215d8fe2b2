"""API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.fields import Name
from app.status import EVERYDAY, Scope
from spice_select.config import Model


class ApiKeyRead(BaseModel):
    """An API key; its secret is shown once, when it is made."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeyMade(ApiKeyRead):
    """A new API key with its secret."""

    secret: str


class ApiKeyCreate(Model):
    """What a new API key may do, and until when."""

    name: Name
    scopes: list[Scope] = Field(default_factory=lambda: list(EVERYDAY), min_length=1, max_length=9)
    """``admin`` is not among the scopes given by default."""
    expires_in_days: Annotated[float, Field(gt=0, le=3650)] | None = None


class ApiKeyRotate(Model):
    """How long the old key goes on."""

    overlap_hours: Annotated[float, Field(ge=0, le=720)] = 24.0
