"""Filters of lists, for both clients."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias, TypedDict, Unpack

from spice_select.errors import ConfigError

When: TypeAlias = datetime | str
"""A time with a zone, or its ISO 8601 text."""


class ListFilters(TypedDict, total=False):
    """Which entries of a list are wanted; a filter that is left out admits all."""

    metadata: Mapping[str, str] | None
    """With all of these pairs."""
    created_after: When | None
    """Made at this time or later."""
    created_before: When | None
    """Made before this time."""
    name: str | None
    """Of this name."""
    q: str | None
    """With this text in the name, or of this id."""
    sort: str | None
    """``newest`` (the order when left out), ``oldest`` or ``name``."""


def filter_query(**filters: Unpack[ListFilters]) -> dict[str, Any]:
    """The query of a list.

    Args:
        **filters: Which entries are wanted.

    Raises:
        ConfigError: A time has no zone, so that it is ambiguous.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _text()
    metadata = filters.get("metadata")
    return {
        "metadata": [f"{key}={value}" for key, value in metadata.items()] if metadata else None,
        "created_after": _text(filters.get("created_after"), "created_after"),
        "created_before": _text(filters.get("created_before"), "created_before"),
        "name": filters.get("name"),
        "q": filters.get("q"),
        "sort": filters.get("sort"),
    }


def _text(when: When | None, name: str) -> str | None:
    if not isinstance(when, datetime):
        return when
    if when.tzinfo is None:
        raise ConfigError(f"{name}: give the time a zone, such as datetime.now(timezone.utc)")
    return when.isoformat()
