"""Gradients at an address that no record names: which of them may go."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.persistence.repositories import Artifacts
from app.persistence.session import Database
from app.services.workers import live_workers

OURS = re.compile(r"[^/]+/[0-9a-f]{2}/[0-9a-f]{64}-[0-9a-f]{16}")
"""Names that workers give; whatever else lies at the address is left alone."""


def unnamed(database: Database, ages: Mapping[str, float], grace_seconds: float) -> list[str]:
    """Files that may be removed: nobody named them in time, or the last record that did is gone.

    Every write has a name of its own, and a record comes to name a file only when its unit ends, or when another unit
    takes over what a record that is there names: what no record names after the grace is never named again.

    Args:
        database: Where the records are.
        ages: Seconds since each file was written. Listed before the records are read: one that is named in between
            is seen.
        grace_seconds: Longer than it takes from writing a file to writing it down.
    """
    old = [name for name, age in ages.items() if age >= grace_seconds and OURS.fullmatch(name)]
    if not old:
        return []
    with database.read() as session:
        named = Artifacts(session).remote_objects()
    return sorted(set(old) - named)


def sweeps(database: Database, name: str) -> bool:
    """Whether it is for this worker to look after what is at the address: the first of those that live.

    Args:
        database: Where the records are.
        name: Of the worker.
    """
    with database.read() as session:
        workers = live_workers(session)
    return bool(workers) and workers[0].name == name
