"""Texts that say nearly the same. MinHash only proposes pairs; the exact Jaccard index of word triples decides."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasketch import MinHash

SIMILARITY = 0.7
"""Jaccard index of word triples from which two texts are near-duplicates."""

_PERMUTATIONS = 128
# 32 bands of 4 propose a pair of Jaccard index 0.7 with probability 0.9998; what they propose too much is refused.
_BANDS = (32, 4)
# Scripts without spaces: each character counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """The words of a text, without case, punctuation or width.

    Args:
        text: Any text.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def word_triples(text: str) -> frozenset[str]:
    """The overlapping triples of words of a text, without case, punctuation or width; the whole of a shorter text.

    Args:
        text: Any text.
    """
    found = words(text)
    if len(found) < 3:
        return frozenset([" ".join(found)]) if found else frozenset()
    return frozenset(" ".join(found[start : start + 3]) for start in range(len(found) - 2))


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
    from datasketch import MinHashLSH

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
    from datasketch import MinHashLSH

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


def _sketches(triples: Sequence[frozenset[str]], seed: int) -> list[MinHash]:
    from datasketch import MinHash

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
