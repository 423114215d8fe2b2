"""What one project may hold at a time: stored bytes, data sets, and jobs and evaluations that wait.

Checked where something is accepted, and by the worker that fetches a source. What the database counts is exact, however
many ask at once. Bytes are measured on the disk: exact within a process, half a minute old in another replica.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.errors import ServiceError
from app.persistence.repositories import holdings
from app.persistence.repositories.holdings import Holding, lock_holdings
from app.persistence.session import Database
from app.settings import Settings
from app.storage import ArtifactStore

Resource = str
PARTS: dict[Resource, tuple[Holding, ...]] = {
    "stored_bytes": ("announced_bytes",),
    "datasets": ("datasets",),
    "queued": ("queued_jobs", "queued_evaluations"),
}
"""What is counted for each resource; stored bytes are measured on the disk besides."""
WORDS = {"stored_bytes": "stored bytes", "datasets": "data sets", "queued": "waiting jobs and evaluations"}


class Quota(NamedTuple):
    """How much of something a project has, and may have.

    Attributes:
        used: What there is.
        allowed: The most there may be; None for any number.
    """

    used: int
    allowed: int | None


_storing = threading.Lock()
"""Between measuring what a project stores and adding to it; a rename lies between the two, no transfer."""


class Quotas:
    """The quotas of projects.

    Args:
        store: Where the bytes are.
        settings: For the bounds.
    """

    def __init__(self, store: ArtifactStore, settings: Settings) -> None:
        self._store = store
        self._allowed: dict[Resource, int | None] = {
            "stored_bytes": settings.quota_bytes or None,
            "datasets": settings.quota_datasets or None,
            "queued": settings.quota_queued or None,
        }

    def all(self, session: Session, project_id: str) -> dict[Resource, Quota]:
        """Every quota of a project."""
        used = self._used(session, project_id, list(self._allowed))
        return {name: Quota(used[name], allowed) for name, allowed in self._allowed.items()}

    @contextmanager
    def storing(self, database: Database, project_id: str, **more: int) -> Generator[None]:
        """Around adding files to the store: nobody else of this process adds any meanwhile.

        Args:
            database: Where the records are.
            project_id: The project.
            more: As for ``check``, ``stored_bytes`` among them.

        Raises:
            ServiceError: ``quota-bytes`` or ``quota-exceeded``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by check()
        with _storing:
            with database.read() as session:
                self.check(session, project_id, **more)
            yield

    def bytes_left(self, session: Session, project_id: str) -> int | None:
        """Bytes that a project may still store; None for any number."""
        allowed = self._allowed["stored_bytes"]
        used = 0 if allowed is None else self._used(session, project_id, ["stored_bytes"])["stored_bytes"]
        return None if allowed is None else max(0, allowed - used)

    def refuse(self, session: Session, project_id: str, **more: int) -> None:
        """As ``check``, in the transaction that adds it: nobody else adds to what is counted until it ends.

        Args:
            session: A transaction that writes.
            project_id: The project.
            more: As for ``check``.
        """
        if any(self._allowed[name] is not None for name in more):
            lock_holdings(session, project_id)
            self.check(session, project_id, **more)

    def check(self, session: Session, project_id: str, **more: int) -> None:
        """Refuse what would go beyond a quota, as it stands.

        Args:
            session: An open session.
            project_id: The project.
            more: How much of which resource is asked for, bytes or pieces.

        Raises:
            ServiceError: ``quota-bytes`` or ``quota-exceeded``, with what is used and allowed.
        """
        asked = {name: amount for name, amount in more.items() if amount and self._allowed[name] is not None}
        if not asked:
            return
        used = self._used(session, project_id, list(asked))
        for name, amount in asked.items():
            allowed = self._allowed[name]
            if allowed is None or used[name] + amount <= allowed:
                continue
            raise ServiceError(
                "quota-bytes" if name == "stored_bytes" else "quota-exceeded",
                f"the project has {used[name]} of {allowed} {WORDS[name]}, and this would be {amount} more",
                headers={} if name == "datasets" else {"Retry-After": "60"},
                members={"quota": {"resource": name, "used": used[name], "allowed": allowed}},
            )

    def _used(self, session: Session, project_id: str, names: list[Resource]) -> dict[Resource, int]:
        found = holdings(session, project_id, [part for name in names for part in PARTS[name]])
        used = {name: sum(found[part] for part in PARTS[name]) for name in names}
        if "stored_bytes" in used:
            used["stored_bytes"] += self._store.bytes_of(project_id)
        return used
