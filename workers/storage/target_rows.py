"""The targets and protected sets of a job, from the one data set that holds the rows of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spice_select.config import Conditions
from spice_select.ingest import iter_rows
from spice_select.pipeline.targets import TargetRows


def target_rows(conditions: Conditions, rows_shards: Sequence[Path]) -> tuple[list[TargetRows], list[TargetRows]]:
    """The rows of each target and of each protected set.

    Args:
        conditions: Name them, unless the data set is the one target.
        rows_shards: ``rows-*.parquet`` of their data set, in order.
    """
    rows = [row for path in rows_shards for row in iter_rows(path)]
    if conditions.target_dataset_id is not None:
        sources = [row.source_row for row in rows]
        return [TargetRows("target", 1.0, rows_shards, range(len(rows)), sources)], []
    members: dict[str, list[int]] = {}
    records = [row.value() for row in rows]
    for place, record in enumerate(records):
        members.setdefault(record["target"], []).append(place)
    numbers = [record.get("target_row", row.source_row) for record, row in zip(records, rows, strict=True)]
    targets, protect = (
        [
            TargetRows(one.name, one.weight, rows_shards, places, [numbers[place] for place in places])
            for one in sets
            for places in [members.get(one.name, [])]
        ]
        for sets in (conditions.targets, conditions.protect)
    )
    return targets, protect
