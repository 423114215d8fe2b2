"""Opaque cursors of lists: where a page ended, as an id or a number."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.errors import ServiceError
from app.services.jobs.service import Filters

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ULID = "[0-9A-HJKMNP-TV-Z]{26}"


class CursorError(ServiceError):
    """A cursor that is none of ours."""

    def __init__(self) -> None:
        detail = "after: not a cursor of this list"
        super().__init__("validation-error", detail, errors=[{"detail": detail, "parameter": "after", "in": "query"}])


def encode_cursor(position: str | int) -> str:
    """An opaque cursor: clients must not parse or build it."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def _position(cursor: str, form: str) -> str:
    """What a cursor holds, where that has this form: the cursor of another list would silently end this one.

    Raises:
        CursorError: It has not.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise CursorError from error
    if not re.fullmatch(form, text):
        raise CursorError
    return text


def id_cursor(cursor: str | None, prefix: str) -> str | None:
    """The id in a cursor of a list whose ids begin like this; None without one.

    Raises:
        CursorError: It holds none.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _position()
    return None if cursor is None else _position(cursor, f"{prefix}_{ULID}")


def listed(filters: Filters, cursor: str | None, prefix: str) -> tuple[Filters, str | None]:
    """The filters of a page and the id that it starts behind, from a cursor of a list in the same order.

    Args:
        filters: Of the request.
        cursor: Where the page before ended; None for the first.
        prefix: What the ids of the list begin with.

    Raises:
        CursorError: It is of another list, or of another order of this one.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _position()
    if filters.sort == "newest" or cursor is None:
        return filters, id_cursor(cursor, prefix)
    form = rf"{filters.sort}\.{prefix}_{ULID}" + (r"\.(?s:.*)" if filters.sort == "name" else "")
    _, entry_id, *rest = _position(cursor, form).split(".", 2)
    return replace(filters, last_name="".join(rest)), entry_id


def list_place(filters: Filters, entry_id: str, name: str | None) -> str:
    """The place of an entry in a list of this order."""
    parts = {"newest": [entry_id], "oldest": ["oldest", entry_id], "name": ["name", entry_id, name or ""]}
    return ".".join(parts[filters.sort])


def moment(time: datetime, entry_id: str) -> str:
    """The place of an entry in a list that is in the order of time."""
    return f"{int((time - EPOCH) / timedelta(microseconds=1))}.{entry_id}"


def moment_cursor(cursor: str | None, prefix: str) -> tuple[datetime, str] | None:
    """The time and the id in a cursor of a list in the order of time; None without one.

    Raises:
        CursorError: It holds none.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _position()
    if cursor is None:
        return None
    microseconds, _, entry_id = _position(cursor, rf"[0-9]{{1,17}}\.{prefix}_{ULID}").partition(".")
    return EPOCH + timedelta(microseconds=int(microseconds)), entry_id


def number_cursor(cursor: str | None, start: int) -> int:
    """The number in a cursor, or ``start`` without one.

    Raises:
        CursorError: It holds no number.
    """
    if cursor is None:
        return start
    number = int(_position(cursor, "-?[0-9]{1,19}"))
    if not -1 <= number < 2**62:
        raise CursorError
    return number
