"""The same response to prompts that have nothing in common: a refusal, an apology, a line of boilerplate.

Of such a response at most one row can be an answer to its prompt. The same response to prompts that are alike is none:
a common task set in other words has the same solution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from spice_select.records.near_duplicates import jaccard, near_duplicate_clusters, words

ALIKE = 0.8
"""Jaccard index of word triples from which two responses are the same."""
UNLIKE = 0.2
"""Jaccard index of words below which two prompts have nothing in common."""
FEWEST_WORDS = 4
"""Shorter responses, such as a class or a number, are right for many prompts."""
COMPARED = 64
"""Most prompts of one response that are compared with one another."""


def repeated_responses(
    prompts: Sequence[str], responses: Sequence[str], least: int, *, seed: int = 0
) -> list[tuple[int, int, list[int]]]:
    """Rows whose response is also given to other prompts, at least ``least`` of which have nothing in common.

    Args:
        prompts: What is asked in each row.
        responses: What is answered.
        least: Fewest prompts, no two of them alike.
        seed: Seed of the hash functions.

    Returns:
        Of each such row its place, how many rows have its response, and the places of ``least`` rows that have it and
        no words to speak of in common; ascending.
    """
    places = [place for place, text in enumerate(responses) if len(words(text)) >= FEWEST_WORDS]
    together = defaultdict(list)
    clusters = near_duplicate_clusters([responses[place] for place in places], similarity=ALIKE, seed=seed)
    for place, first in zip(places, clusters, strict=True):
        together[first].append(place)
    found = []
    for rows in together.values():
        unlike = _unlike(prompts, rows[:COMPARED], least) if len(rows) >= least else []
        if len(unlike) >= least:
            found += [(place, len(rows), unlike) for place in rows]
    return sorted(found)


def _unlike(prompts: Sequence[str], rows: Sequence[int], most: int) -> list[int]:
    """The first rows whose prompts have little in common, each with all before it, and no more than ``most``."""
    chosen: list[tuple[int, frozenset[str]]] = []
    for row in rows:
        said = frozenset(words(prompts[row]))
        if said and all(jaccard(said, other) < UNLIKE for _, other in chosen):
            chosen.append((row, said))
        if len(chosen) == most:
            break
    return [row for row, _ in chosen]
