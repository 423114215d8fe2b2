"""Public ids: a prefix that names the kind, then a time-ordered ULID, so that ids sort by age."""

from __future__ import annotations

from ulid import ULID

DEFAULT_PROJECT = "proj_default"


def new_id(prefix: str) -> str:
    """A fresh id such as ``job_01J8Z3K4M5N6P7Q8R9S0T1V2W3``."""
    return f"{prefix}_{ULID()}"
