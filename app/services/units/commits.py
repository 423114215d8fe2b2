"""Accepting what a worker made: the artifact is already stored, one fenced transaction makes it count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from app.persistence.repositories import Units
from app.persistence.repositories.rows import now
from app.persistence.repositories.unit_logs import LogLine
from app.persistence.session import Database
from app.persistence.tables import UnitCommit
from app.persistence.types import clock
from app.services.units.leases import Claim, write_log
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


IN_LOG = ("samples", "tokens", "excluded", "truncated", "halvings", "picks", "seconds", "device", "peak_bytes")
"""What the log says of what a unit made, where it is known."""


def commit_unit(
    database: Database,
    claim: Claim,
    rules: CommitRules[Committed],
    outcome: Committed,
    lines: Sequence[LogLine] = (),
) -> bool:
    """End a unit with its outcome, if the lease is still the claim's: the epoch is the fence.

    Args:
        database: Where the records are.
        claim: The lease.
        rules: Of the unit's kind.
        outcome: What it made.
        lines: What else the log does not say yet.

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
        told = {name: outcome.result[name] for name in IN_LOG if outcome.result.get(name) is not None}
        write_log(session, claim, [*lines, LogLine("info", "committed", _committed(told), told)])
        return True


def _committed(told: dict[str, Any]) -> str:
    counts = [
        f"{told[name]:,} {what}"
        for name, what in (("samples", "rows"), ("tokens", "tokens"), ("picks", "picks"))
        if name in told
    ]
    spent = f" in {told['seconds']:.1f} s" if "seconds" in told else ""
    return f"done: {', '.join(counts)}{spent}" if counts else f"done{spent}"
