"""Accepting what a worker made: the artifact is already stored, one fenced transaction makes it count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from app.persistence.repositories import Units
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import UnitCommit
from app.persistence.types import clock
from app.services.units.leases import Claim
from app.status import UnitState


@dataclass(frozen=True)
class Outcome:
    """What a unit made, as its commit records it; a kind of unit may add what else its rows take.

    Attributes:
        artifact_sha256: Digest (hex) of what was stored; None where nothing was.
        result: What to remember about it.
    """

    artifact_sha256: str | None
    result: dict[str, Any]


Committed = TypeVar("Committed", bound=Outcome, contravariant=True)


class CommitRules(Protocol[Committed]):
    """What one kind of unit changes when it is committed."""

    def lock(self, session: Any, claim: Claim) -> None:
        """Lock the rows that have to be locked before the unit's own."""

    def commit(self, session: Any, claim: Claim, outcome: Committed) -> None:
        """Change the rows of whatever waits for the unit; the lease was held."""


def commit_unit(database: Database, claim: Claim, rules: CommitRules[Committed], outcome: Committed) -> bool:
    """End a unit with its outcome, if the lease is still the claim's: the epoch is the fence.

    Args:
        database: Where the records are.
        claim: The lease.
        rules: Of the unit's kind.
        outcome: What it made.

    Returns:
        False when the lease was stale: the outcome is discarded. A retry after a lost answer, when this very epoch has
        committed already, is a success.
    """
    with database.write() as session:
        rules.lock(session, claim)
        units = Units(session)
        if not units.end_lease(claim.unit_id, claim.epoch, UnitState.DONE, {"finished_at": clock(), "error": None}):
            return units.committed(claim.unit_id, claim.epoch) is not None
        units.record_commit(
            UnitCommit(
                unit_id=claim.unit_id,
                generation=claim.generation,
                epoch=claim.epoch,
                owner=claim.owner,
                artifact_sha256=outcome.artifact_sha256,
                result=outcome.result,
                committed_at=now(session),
            )
        )
        rules.commit(session, claim, outcome)
        return True
