"""What the choice is made of beside what the pool is made of: lengths and groups."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

MOST_GROUPS = 24
"""Different values up to which a column counts as one of groups."""
LONGEST_NAME = 80
"""Characters of a value up to which it counts as the name of a group."""


def length_histogram(tokens: Sequence[int], chosen: Sequence[int]) -> dict[str, list[int]]:
    """How many samples of the pool and of the choice have which length, in bins that double.

    Args:
        tokens: Tokens of each candidate, in pool order; each at least 1.
        chosen: Indices of the chosen candidates.

    Returns:
        ``edges`` (b + 1 increasing lengths; bin i holds edges[i] <= tokens < edges[i + 1]), and ``pool`` and
        ``selected`` (b counts each). All empty without candidates.
    """
    if not tokens:
        return {"edges": [], "pool": [], "selected": []}
    low, high = min(tokens), max(tokens)
    edges = [1 << max(0, int(low).bit_length() - 1)]
    while edges[-1] <= high:
        edges.append(edges[-1] * 2)
    pool, selected = [0] * (len(edges) - 1), [0] * (len(edges) - 1)
    for count in tokens:
        pool[bisect_right(edges, count) - 1] += 1
    for index in chosen:
        selected[bisect_right(edges, tokens[index]) - 1] += 1
    return {"edges": edges, "pool": pool, "selected": selected}


def group_counts(
    records: Iterable[dict[str, Any] | None], chosen: set[int], column: str | None = None
) -> dict[str, Any] | None:
    """How many samples of the pool and of the choice belong to which group.

    Args:
        records: The candidates' records in pool order; None for a usable row that is no candidate.
        chosen: Positions of the chosen records.
        column: The column that names the group. None takes the first, in the order of the records, that holds a short
            text in every record, between 2 and ``MOST_GROUPS`` different ones over the pool.

    Returns:
        ``column``, and ``groups`` (``name``, ``pool``, ``selected``; the largest first); None when no column will do.
    """
    pool: dict[str, Counter[str]] | None = None if column is None else {column: Counter()}
    picked: dict[str, Counter[str]] = {}
    seen = 0
    for position, record in enumerate(records):
        if record is None:
            continue
        if pool is None:
            pool = {name: Counter() for name, value in record.items() if _is_name(value)}
        seen += 1
        for name in list(pool):
            found = record.get(name)
            if column is None and not _is_name(found):
                del pool[name]
                continue
            value = _text(found)
            pool[name][value] += 1
            if position in chosen:
                picked.setdefault(name, Counter())[value] += 1
            if column is None and len(pool[name]) > MOST_GROUPS:
                del pool[name]
        if not pool:
            return None
    usable = [name for name, counts in (pool or {}).items() if column is not None or 2 <= len(counts) < seen]
    if not usable or pool is None:
        return None
    largest = sorted(pool[usable[0]].items(), key=lambda item: (-item[1], item[0]))[:MOST_GROUPS]
    mine = picked.get(usable[0], Counter())
    return {
        "column": usable[0],
        "groups": [{"name": name[:LONGEST_NAME], "pool": count, "selected": mine[name]} for name, count in largest],
    }


def composition(
    *,
    tokens: Sequence[int],
    chosen: Sequence[int],
    positions: Sequence[int],
    rows_shards: Sequence[Path],
    column: str | None = None,
) -> dict[str, Any]:
    """Lengths and groups of the choice beside those of the pool, for a job's ``result``.

    Args:
        tokens: Tokens of each candidate.
        chosen: Indices of the chosen candidates.
        positions: Position of each candidate among the usable rows.
        rows_shards: The intake's ``rows-*.parquet``, in order.
        column: The column that names the group; None looks for one.
    """
    picked = {int(positions[index]) for index in chosen}
    return {
        "tokens": length_histogram(tokens, chosen),
        "groups": group_counts(_candidates(rows_shards, positions), picked, column),
    }


def _candidates(rows_shards: Sequence[Path], positions: Sequence[int]) -> Iterator[dict[str, Any] | None]:
    wanted, position = {int(each) for each in positions}, 0
    for path in rows_shards:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["record"], use_threads=False):
                for text in batch.column(0):
                    yield json.loads(text.as_py()) if position in wanted else None
                    position += 1


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and "\n" not in value


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
