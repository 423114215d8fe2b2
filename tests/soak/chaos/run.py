"""One chaos run from start to verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.soak.chaos.checker import Verdict, check, outcomes, report, settle
from tests.soak.chaos.clients import Clients
from tests.soak.chaos.cluster import Cluster
from tests.soak.chaos.nemesis import Nemesis

DRAIN_SECONDS = 300.0
"""Without a finished unit. A killed worker loads torch again: minutes where ten others want the same two cores."""


def run(
    folder: Path,
    seconds: float,
    seed: int,
    *,
    extra: Mapping[str, str] | None = None,
    only: str = "",
    least: int = 0,
) -> tuple[Verdict, str]:
    """Put the service under fire, heal it, and judge what is left.

    Args:
        folder: For logs and artifacts.
        seconds: Length of the fire.
        seed: Of the questions and the moves.
        extra: Environment of the processes, such as a sabotage.
        only: Regular expression that the names of moves must match.
        least: Jobs that must be accepted under fire, however long it takes.

    Returns:
        The verdict, and a report of it.
    """
    with Cluster(folder, extra=extra) as cluster, Clients(cluster.api.url, seed) as clients:
        clients.push()
        nemesis = Nemesis(cluster, clients, seed, only=only)
        clients.start()
        try:
            nemesis.play(seconds, least)
        finally:
            cluster.heal()
            clients.stop()
        cluster.api.wait_ready()
        settle(cluster.database, DRAIN_SECONDS)
        verdict = check(cluster.database, clients, nemesis.faults)
        verdict.outcomes = outcomes(folder / "logs")
        return verdict, report(verdict, nemesis.faults, seed, seconds)
