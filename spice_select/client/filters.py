"""What lists are narrowed down to, for both clients."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias, TypedDict, Unpack

from spice_select.errors import ConfigError

When: TypeAlias = datetime | str
"""A time with a zone, or its ISO 8601 text."""


class ListFilters(TypedDict, total=False):
    """What the entries of a list have; what is left out does not matter."""

    metadata: Mapping[str, str] | None
    """All of these pairs."""
    created_after: When | None
    """Made at this time or later."""
    created_before: When | None
    """Made before this time."""


def narrowed(**which: Unpack[ListFilters]) -> dict[str, Any]:
    """The query of a list.

    Args:
        **which: What its entries have.

    Raises:
        ConfigError: A time has no zone, so that it could be any of a day.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _text()
    metadata = which.get("metadata")
    return {
        "metadata": [f"{key}={value}" for key, value in metadata.items()] if metadata else None,
        "created_after": _text(which.get("created_after"), "created_after"),
        "created_before": _text(which.get("created_before"), "created_before"),
    }


def _text(when: When | None, name: str) -> str | None:
    if not isinstance(when, datetime):
        return when
    if when.tzinfo is None:
        raise ConfigError(f"{name}: give the time a zone, such as datetime.now(timezone.utc)")
    return when.isoformat()
