"""One page of a list."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

Entry = TypeVar("Entry")


class Page(BaseModel, Generic[Entry]):
    """One page of a list; ``next_cursor`` goes into ``after``."""

    data: list[Entry]
    has_more: bool
    next_cursor: str | None
