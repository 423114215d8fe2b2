"""Retention: removes files whose last record is deleted, and gradients that no job has needed for long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from app.persistence.repositories import Artifacts, GradientSets, UnitLogs, Units
from app.persistence.repositories.unit_logs import BATCH_LINES
from app.persistence.session import Database
from app.persistence.tables import ObsoleteArtifact
from app.settings import Settings
from app.status import GradientSetStatus, UnitState
from app.storage import ArtifactStore, age_of

BATCH_FILES = 500
DAY_SECONDS = 86400.0


class Retention:
    """Removes files that are marked as obsolete and that no record needs, and nothing else.

    A file is written before the record that names it, so a file that nobody names may be somebody's next result: only
    files older than the grace are removed, and each is moved aside before it is looked at for the last time, so that
    one which is written again under the same name at that very moment stays.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        settings: For the grace, and for how long gradients are kept.
    """

    def __init__(self, database: Database, store: ArtifactStore, settings: Settings) -> None:
        self.database = database
        self.store = store
        self.settings = settings

    def sweep(self) -> dict[str, int]:
        """Expire gradients, then remove what is to be removed; how many there were of each."""
        return {"gradient_sets_expired": self.expire(), "artifacts_removed": self.remove()}

    def forget_logs(self) -> int:
        """Remove lines of the logs of units that are older than ``log_days``; how many."""
        removed = 0
        while True:
            with self.database.write() as session:
                some = UnitLogs(session).forget_older_than(self.settings.log_days * DAY_SECONDS)
            removed += some
            if some < BATCH_LINES:
                return removed

    def expire(self) -> int:
        """Expire gradient sets that no job has needed for the set time; they can be computed again."""
        if self.settings.gradient_days is None:
            return 0
        seconds = self.settings.gradient_days * DAY_SECONDS
        with self.database.read() as session:
            unused = GradientSets(session).unused_since(seconds)
        return sum(self._expire(gradient_set_id, seconds) for gradient_set_id in unused)

    def _expire(self, gradient_set_id: str, seconds: float) -> bool:
        with self.database.write() as session:
            sets, units = GradientSets(session), Units(session)
            gradient_set = sets.lock(gradient_set_id)
            # Whoever wants the set joins it first, so that under the lock nobody is on the way to it.
            if not sets.unused_since(seconds, only=gradient_set_id):
                return False
            made = units.shard_commits(gradient_set_id)
            sets.set_status(gradient_set_id, GradientSetStatus.EXPIRED)
            made += [
                (unit, commit)
                for unit, commit in units.preparations(gradient_set_id)
                if all(one.status == GradientSetStatus.EXPIRED for one in sets.prepared_by(unit.id))
            ]
            units.reopen([unit.id for unit, _ in made if unit.state == UnitState.DONE])
            names = (commit.artifact_sha256 for _, commit in made)
            Artifacts(session).mark_obsolete(gradient_set.project_id, (name for name in names if name is not None))
            return True

    def remove(self) -> int:
        """Remove all that is to be removed and old enough; how many files."""
        removed, after = 0, ("", "")
        while True:
            with self.database.read() as session:
                batch = Artifacts(session).obsolete(BATCH_FILES, after=after)
            for project_id, rows in groupby(batch, key=lambda row: row.project_id):
                removed += self._remove_some(project_id, list(rows))
            if len(batch) < BATCH_FILES:
                return removed
            after = (batch[-1].project_id, batch[-1].sha256)

    def remove_of(self, project_id: str, digests: Iterable[str]) -> int:
        """The same of some files only, which have just lost a record."""
        wanted = sorted(digests)
        with self.database.read() as session:
            rows = Artifacts(session).obsolete_among(project_id, wanted)
        return self._remove_some(project_id, rows)

    def _remove_some(self, project_id: str, rows: Sequence[ObsoleteArtifact]) -> int:
        grace = self.settings.artifact_grace_seconds
        old = [row for row in rows if self.store.age(project_id, row.sha256) >= grace]
        needed = self._needed(project_id, [row.sha256 for row in old])
        with self.store.scratch() as folder:
            moved = {
                row.sha256: self.store.take_out(project_id, row.sha256, folder)
                for row in old
                if row.sha256 not in needed
            }
            taken = [path for path in moved.values() if path is not None]
            fresh = {path.name for path in taken if age_of(path) < grace}
            needed |= self._needed(project_id, [path.name for path in taken])
            stays = needed | fresh
            kept = [path for path in taken if path.name in stays]
            for path in kept:
                self.store.put_back(project_id, path)
            for sha256 in moved.keys() - stays:  # also of a file that was lost: what was made of it is still there
                self.store.remove_cuts(project_id, sha256)
        with self.database.write() as session:
            Artifacts(session).unmark(row for row in old if row.sha256 not in fresh or row.sha256 in needed)
        return len(taken) - len(kept)

    def _needed(self, project_id: str, digests: list[str]) -> set[str]:
        if not digests:
            return set()
        with self.database.read() as session:
            return Artifacts(session).needed(project_id, digests)
