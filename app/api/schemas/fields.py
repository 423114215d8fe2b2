"""Fields and models that several bodies share: errors, progress, pages, and settings shown as they were stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema


def printable(text: str) -> str:
    """The text as it is.

    Raises:
        ValueError: It has control characters.
    """
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


def plain(text: str) -> str:
    """The text as it is.

    Raises:
        ValueError: It has a NUL, which no database takes.
    """
    if "\x00" in text:
        raise ValueError("NUL is not allowed")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(printable)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(printable)]
MetadataValue = Annotated[str, Field(max_length=512), AfterValidator(plain)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""Up to 16 key-values of the client's own."""


Json = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class Shown:
    """Marks a stored JSON object that the contract describes by a model, and that is not held against it again.

    A newer release may have stored what this one cannot read (``as_shown``).

    Args:
        model: What the contract says of it.
    """

    model: type[BaseModel]

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Takes and gives any value; described like the model."""
        return core_schema.no_info_wrap_validator_function(
            lambda value, _check: value,
            handler.generate_schema(self.model),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value),
        )


def as_shown(model: type[BaseModel], stored: dict[str, Any]) -> dict[str, Any]:
    """Stored settings for a reader.

    Args:
        model: How this release knows them.
        stored: What was written down.

    Returns:
        With the defaults of what an older release did not know; exactly as stored where a newer release wrote what
        this one cannot read.
    """
    try:
        return model.model_validate(stored).model_dump(mode="json")
    except ValidationError:
        return stored


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
    reasons: dict[str, int] | None = None


class ProgressRead(BaseModel):
    """How far the present phase is."""

    phase: str
    completed: int
    total: int
    unit: str
    fraction: float
    rate_per_second: float | None
    eta_seconds: float | None
    updated_at: datetime | None
    tokens_per_second: float | None = None
    """While gradients are taken."""
    memory_bytes: int | None = None
    """Most that a worker at it holds: of its device, or of its process on a processor."""


Entry = TypeVar("Entry")


class Page(BaseModel, Generic[Entry]):
    """One page of a list; ``next_cursor`` goes into ``after``."""

    data: list[Entry]
    has_more: bool
    next_cursor: str | None
