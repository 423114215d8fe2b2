"""What the probes answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LiveRead(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyRead(BaseModel):
    """Requests can be served; one entry a check."""

    status: Literal["ok"] = "ok"
    checks: dict[str, str]


class VersionRead(BaseModel):
    """Versions of the code, the API, the database schema and the stored gradients."""

    model_config = ConfigDict(extra="allow")

    version: str
    api: str
    schema_: str | None = Field(alias="schema")
    gradient_format: int
