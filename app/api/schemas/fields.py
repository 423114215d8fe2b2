"""What a client may write into a field, shared by several bodies."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


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
