"""A body of ``application/json`` that makes a data set: a request that names a source, or the records themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api.middleware import strict_json
from app.api.problems import BodyError
from app.api.schemas.datasets import DatasetCreate
from app.errors import ServiceError
from spice_select.ingest.containers import BOM, first_line_is_whole

BLANK = b" \t\r\n"


async def read_json(stream: AsyncIterator[bytes], max_body_bytes: int) -> tuple[bytes, DatasetCreate | None]:
    """Read as much of a body as tells a request from records; what is plainly neither is refused before it is stored.

    Records are an array, or JSON Lines of more than one line: one object alone is a request.

    Args:
        stream: The body.
        max_body_bytes: Longest request; a longer body is records.

    Returns:
        What was read of the body, and the request if it is one. The rest of records is left in the stream.

    Raises:
        ServiceError: ``dataset-empty`` for an empty array and for nothing at all.
        BodyError: ``malformed-request`` for what is not JSON or begins with neither ``{`` nor ``[``.
        RequestValidationError: An object that is no request.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by what is called
    held, whole = await _held(stream, max_body_bytes)
    text = held.removeprefix(BOM)
    start = text.lstrip(BLANK)
    if not start:
        raise ServiceError("dataset-empty", "the body has no bytes but white space", pointer="#")
    if start[:1] not in {b"{", b"["}:
        detail = "a body of application/json begins with { or [; send any other file as application/octet-stream"
        raise BodyError("malformed-request", detail)
    if not whole or first_line_is_whole(start):
        return held, None
    if start[:1] == b"{":
        return held, _request(strict_json(text))
    if not _records(text):
        raise ServiceError("dataset-empty", "the array holds no record", pointer="#")
    return held, None


async def _held(stream: AsyncIterator[bytes], most: int) -> tuple[bytes, bool]:
    """The start of a body, and whether that is all of it."""
    held = b""
    async for chunk in stream:
        held += chunk
        if len(held) > most:
            return held, False
    return held, True


def _records(text: bytes) -> Any:
    """The array, read no more strictly than records are: what is wrong with them is found when they are validated."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return strict_json(text)  # which says in the words of a problem what is wrong


def _request(value: Any) -> DatasetCreate:
    try:
        return DatasetCreate.model_validate(value)
    except ValidationError as error:
        findings = error.errors(include_input=False, include_url=False)
        raise RequestValidationError(
            [{**finding, "loc": ("body", *finding["loc"])} for finding in findings], body=value
        ) from error
