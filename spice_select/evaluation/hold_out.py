"""Rows that nobody trains on, drawn so that nothing like them is left in the pool.

Near-duplicates stay together: rows are joined into clusters and whole clusters are held out. MinHash only proposes
pairs; whether two rows are alike is decided by the exact Jaccard index of their word triples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spice_select.errors import ConfigError
from spice_select.records.near_duplicates import SIMILARITY, near_duplicate_clusters
from spice_select.selection.baselines import random_order


@dataclass(frozen=True)
class Split:
    """A pool cut in two.

    Attributes:
        pool: Rows that may be trained on, ascending.
        held_out: Rows that are not, ascending.
        clusters: Number of clusters of near-duplicates of more than one row.
        clustered: Rows in them.
    """

    pool: list[int]
    held_out: list[int]
    clusters: int
    clustered: int


def split(
    texts: Sequence[str],
    *,
    count: int,
    groups: Sequence[str] | None = None,
    similarity: float = SIMILARITY,
    seed: int = 0,
) -> Split:
    """Hold rows out of a pool, whole clusters of near-duplicates at a time, each group by its share of the rows.

    Args:
        texts: What the rows say, prompt and response.
        count: Rows to hold out at most; a few less where clusters do not fit.
        groups: Group of every row; None takes all rows for one group.
        similarity: As for ``near_duplicate_clusters``.
        seed: Seed of the draw and of the hash functions.

    Raises:
        ConfigError: Nothing would be held out, or nothing would be left.
    """
    size = len(texts)
    if not 0 < count < size:
        raise ConfigError(f"{count} rows cannot be held out of {size}", pointer="#/hold_out")
    names = list(groups) if groups is not None else [""] * size
    cluster_of = near_duplicate_clusters(texts, similarity=similarity, seed=seed)
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(cluster_of):
        members.setdefault(cluster, []).append(row)
    sizes: dict[str, int] = {}
    for name in names:
        sizes[name] = sizes.get(name, 0) + 1
    room = {name: int(count * rows / size + 0.5) for name, rows in sizes.items()}
    held_out: list[int] = []
    for cluster in random_order(size, seed).tolist():
        rows = members.get(cluster)
        if rows is None or len(rows) > room[names[cluster]] or len(held_out) + len(rows) > count:
            continue
        room[names[cluster]] -= len(rows)
        held_out += rows
    if not held_out:
        raise ConfigError(
            f"no cluster of near-duplicates is small enough to hold out {count} rows", pointer="#/hold_out"
        )
    taken = set(held_out)
    several = [rows for rows in members.values() if len(rows) > 1]
    return Split(
        pool=[row for row in range(size) if row not in taken],
        held_out=sorted(held_out),
        clusters=len(several),
        clustered=sum(len(rows) for rows in several),
    )
