"""What the rows of a data set are like: how long, and of which groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from app.persistence.tables import Dataset
from app.storage import ArtifactStore

if TYPE_CHECKING:
    from spice_select.ingest.stored import PoolRow

MOST_ROWS = 10_000
"""Rows that are looked at, from the first: enough to see what a data set is made of, within a second."""
MOST_KEPT = 200
"""Data sets whose statistics are remembered; one that is ready never changes."""


class DatasetStatistics:
    """Statistics of the data sets of one service.

    Args:
        store: Where their rows are.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self._kept: dict[str, dict[str, Any]] = {}

    def of(self, dataset: Dataset) -> dict[str, Any] | None:
        """Statistics of a data set; None of one that is not ready.

        Args:
            dataset: The data set.

        Returns:
            ``rows`` (how many were looked at), ``characters`` (``edges`` and ``pool`` of the lengths of their texts, in
            bins that double) and ``groups`` (``column`` and ``groups``, or None without such a column).

        Raises:
            ServiceError: ``artifact-corrupt`` or ``artifact-lost``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the store
        if not dataset.shards:
            return None
        if dataset.id not in self._kept:
            from spice_select.records.conversation import said
            from spice_select.results.composition import group_counts, length_histogram

            lengths: list[int] = []
            records: list[dict[str, Any]] = []
            for row in islice(self._rows(dataset), MOST_ROWS):
                lengths.append(max(1, len(said(row.messages))))
                records.append(row.value())
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[dataset.id] = {
                "rows": len(lengths),
                "characters": length_histogram(lengths, ()),
                "groups": group_counts(records, set()),
            }
        return self._kept[dataset.id]

    def _rows(self, dataset: Dataset) -> Iterator[PoolRow]:
        from spice_select.ingest import iter_rows

        for shard in dataset.shards or []:
            yield from iter_rows(self.store.intact(dataset.project_id, shard["sha256"]))
