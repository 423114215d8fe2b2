"""Rows that nobody trains on, drawn so that nothing like them is left in the pool.

Near-duplicates stay together: rows are joined into clusters and whole clusters are held out. MinHash only proposes
pairs; whether two rows are alike is decided by the exact Jaccard index of their word triples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH

from spice_select.errors import ConfigError
from spice_select.selection.baselines import random_order

SIMILARITY = 0.7
"""Jaccard index of word triples from which two texts are near-duplicates."""

_PERMUTATIONS = 128
# 32 bands of 4 propose a pair of Jaccard index 0.7 with probability 0.9998; what they propose too much is refused.
_BANDS = (32, 4)
# Scripts without spaces: each character counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


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


def word_triples(text: str) -> frozenset[str]:
    """The overlapping triples of words of a text, without case, punctuation or width; the whole of a shorter text.

    Args:
        text: Any text.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) < 3:
        return frozenset([" ".join(words)]) if words else frozenset()
    return frozenset(" ".join(words[start : start + 3]) for start in range(len(words) - 2))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """|A and B| / |A or B|, in [0, 1]; 0 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 0.0


def near_duplicate_clusters(texts: Sequence[str], *, similarity: float = SIMILARITY, seed: int = 0) -> list[int]:
    """Cluster of every text: texts joined by a chain of near-duplicates share the number of the first of them.

    Args:
        texts: What is compared.
        similarity: Jaccard index of word triples from which two texts are near-duplicates, in (0, 1].
        seed: Seed of the hash functions.

    Returns:
        One number for each text: the place of the first text of its cluster.
    """
    triples = [word_triples(text) for text in texts]
    parents = list(range(len(texts)))
    index = MinHashLSH(params=_BANDS, num_perm=_PERMUTATIONS)
    for place, (found, sketch) in enumerate(zip(triples, _sketches(triples, seed), strict=True)):
        if not found:
            continue
        for other in sorted(index.query(sketch)):
            roots = _root(parents, place), _root(parents, other)
            if roots[0] != roots[1] and jaccard(found, triples[other]) >= similarity:
                parents[max(roots)] = min(roots)
        index.insert(place, sketch)
    return [_root(parents, place) for place in range(len(texts))]


def near_duplicates_of(
    texts: Sequence[str], held_out: Sequence[str], *, similarity: float = SIMILARITY, seed: int = 0
) -> list[int]:
    """Places of the texts that are near-duplicates of a held-out text, ascending.

    Args:
        texts: Texts that may be trained on.
        held_out: Texts that may not.
        similarity: As for ``near_duplicate_clusters``.
        seed: Seed of the hash functions.
    """
    kept = [word_triples(text) for text in held_out]
    index = MinHashLSH(params=_BANDS, num_perm=_PERMUTATIONS)
    for place, sketch in enumerate(_sketches(kept, seed)):
        if kept[place]:
            index.insert(place, sketch)
    triples = [word_triples(text) for text in texts]
    return [
        place
        for place, (found, sketch) in enumerate(zip(triples, _sketches(triples, seed), strict=True))
        if found and any(jaccard(found, kept[other]) >= similarity for other in index.query(sketch))
    ]


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


def _sketches(triples: Sequence[frozenset[str]], seed: int) -> list[MinHash]:
    # Bulk shares the permutations; a MinHash of its own would draw them anew for every text.
    return list(
        MinHash.generator(
            ([triple.encode() for triple in sorted(found)] for found in triples),
            num_perm=_PERMUTATIONS,
            seed=seed + 1,
        )
    )


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place
