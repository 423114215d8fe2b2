"""An error as it is answered."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One thing that is wrong."""

    model_config = ConfigDict(extra="allow")

    detail: str
    pointer: str | None = None


class ProblemRead(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    request_id: str | None = None
    retryable: bool
    errors: list[Finding] = []
