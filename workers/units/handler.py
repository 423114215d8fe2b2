"""What a worker needs to know about a kind of unit: how it is loaded, run and committed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from app.services.units.commits import Outcome
from app.services.units.leases import Claim
from app.status import UnitKind
from workers.heartbeat import Heartbeat
from workers.units.resources import Resources

Inputs = TypeVar("Inputs")
Made = TypeVar("Made", bound=Outcome)


class UnitHandler(ABC, Generic[Inputs, Made]):
    """One kind of unit. Its module imports no torch: an ingest must not wait for it.

    Args:
        resources: What the handlers of a process share.
    """

    kind: ClassVar[UnitKind]

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    @abstractmethod
    def load(self, session: Any, claim: Claim) -> Inputs:
        """Read everything that the work needs.

        Args:
            session: A transaction that only reads; it is closed when the work begins.
            claim: The lease.
        """

    @abstractmethod
    def run(self, claim: Claim, inputs: Inputs, heartbeat: Heartbeat, folder: Path) -> Made:
        """Do the work and store what it made.

        Args:
            claim: The lease.
            inputs: From ``load``.
            heartbeat: Told the progress; says when to stop.
            folder: An empty folder of the artifact store; it is removed after the commit.
        """

    @abstractmethod
    def commit(self, session: Any, claim: Claim, outcome: Made) -> None:
        """Change the rows of whatever waits for the unit.

        Args:
            session: The transaction that has just ended the lease.
            claim: The lease.
            outcome: From ``run``.
        """

    def lock(self, session: Any, claim: Claim) -> None:
        """Lock the rows that have to be locked before the unit's own; most kinds have none."""

    def clean_up(self, claim: Claim) -> None:
        """Remove what the work left on the disk, once its outcome is committed; most kinds leave nothing."""
