"""What can be wrong with a stored artifact."""

from __future__ import annotations


class ArtifactsLostError(Exception):
    """Weights, shards or selections of parts that a unit needs are missing or rotten; their units have to run again.

    Args:
        unit_ids: The units that made them.
        detail: Which files, and what is wrong.
    """

    def __init__(self, unit_ids: list[str], detail: str) -> None:
        super().__init__(detail)
        self.unit_ids = unit_ids
        self.detail = detail
