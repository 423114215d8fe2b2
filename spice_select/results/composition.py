"""What the choice is made of beside what the pool is made of: lengths and groups."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from spice_select.records.exact_numbers import ExactNumber, load_record

if TYPE_CHECKING:
    import torch

    from spice_select.results.run_metadata import TargetFacts

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
    records: Iterable[dict[str, Any] | None],
    chosen: set[int],
    column: str | None = None,
    votes: Mapping[str, Mapping[int, float]] | None = None,
) -> dict[str, Any] | None:
    """How many samples of the pool and of the choice belong to which group.

    Args:
        records: The candidates' records in pool order; None for a usable row that is no candidate.
        chosen: Positions of the chosen records.
        column: The column that names the group. None takes the first, in the order of the records, that holds a short
            text in every record, between 2 and ``MOST_GROUPS`` different ones over the pool.
        votes: For each target which part of its votes falls to the record at a position; None without targets.

    Returns:
        ``column``, and ``groups`` (``name``, ``pool``, ``selected``, with targets the share of each group in the mix
        that each implies as ``targets``; the largest first); None when no column will do.
    """
    near: dict[tuple[str, str, str], float] = defaultdict(float)
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
            for target, shares in (votes or {}).items():
                near[name, target, value] += shares.get(position, 0.0)
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
        "groups": [
            {
                "name": name[:LONGEST_NAME],
                "pool": count,
                "selected": mine[name],
                **({} if votes is None else {"targets": {one: near[usable[0], one, name] for one in votes}}),
            }
            for name, count in largest
        ],
    }


def composition(
    *,
    tokens: Sequence[int],
    chosen: Sequence[int],
    positions: Sequence[int],
    rows_shards: Sequence[Path],
    column: str | None = None,
    targets: Sequence[TargetFacts] = (),
    votes: torch.Tensor | None = None,
) -> dict[str, Any]:
    """Lengths and groups of the choice beside those of the pool, for a job's ``result``.

    Args:
        tokens: Tokens of each candidate.
        chosen: Indices of the chosen candidates.
        positions: Position of each candidate among the usable rows.
        rows_shards: The intake's ``rows-*.parquet``, in order.
        column: The column that names the group; None looks for one.
        targets: The targets.
        votes: Which part of the votes of each falls to each candidate, shape (targets, candidates); None without.

    Returns:
        ``tokens`` and ``groups``; with targets each group has its share of the mix that they imply together
        (``implied``), beside that of each (``targets``).
    """
    near: dict[str, dict[int, float]] | None = None
    if votes is not None:
        near = {
            target.name: {int(positions[row]): float(shares[row]) for row in shares.nonzero().flatten().tolist()}
            for target, shares in zip(targets, votes, strict=True)
        }
    picked = {int(positions[index]) for index in chosen}
    groups = group_counts(_candidates(rows_shards, positions), picked, column, near)
    if groups is not None and votes is not None:
        total = sum(target.weight for target in targets)
        for group in groups["groups"]:
            group["implied"] = sum(group["targets"][target.name] * target.weight / total for target in targets)
    return {"tokens": length_histogram(tokens, chosen), "groups": groups}


def _candidates(rows_shards: Sequence[Path], positions: Sequence[int]) -> Iterator[dict[str, Any] | None]:
    wanted, position = {int(each) for each in positions}, 0
    for path in rows_shards:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["record"], use_threads=False):
                for text in batch.column(0):
                    yield load_record(text.as_py()) if position in wanted else None
                    position += 1


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and "\n" not in value


def _text(value: object) -> str:
    if isinstance(value, ExactNumber):
        return value.text
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
