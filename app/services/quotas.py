"""What one project may hold at a time: stored bytes, data sets, and jobs and evaluations that wait.

Checked where something is accepted. Requests that are under way at the same moment do not see each other, so that a
bound may be passed by as many as there are of them; another replica's measure of the folder is half a minute old.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.errors import ServiceError
from app.persistence.repositories import holdings
from app.persistence.repositories.holdings import Holding
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

    def refuse(self, session: Session, project_id: str, **more: int) -> None:
        """Refuse what would go beyond a quota.

        Args:
            session: An open session.
            project_id: The project.
            more: How much of which resource is asked for, bytes or pieces.

        Raises:
            ServiceError: ``quota-bytes`` or ``quota-exceeded``, with what is used and allowed.
        """
        asked = {name: amount for name, amount in more.items() if self._allowed[name] is not None}
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
