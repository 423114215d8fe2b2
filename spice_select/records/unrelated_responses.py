"""Responses that have no more in common with their own prompt than with other prompts of the pool.

What an answer has in common with its question are rare words: names, numbers, the topic. Words are compared by runs of
four characters, so that an inflected word, or a name within an identifier, counts. A run counts by how rare it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spice_select.records.near_duplicates import words

RUN = 4
"""Characters of a run; a shorter word is one."""
FEWEST_WORDS = 8
"""A shorter response, such as a number or a name, need have nothing in common with its prompt."""
COMPARED = 256
"""Prompts that each response is compared with, evenly spaced over the pool."""
FEWEST_PROMPTS = 50
"""Of fewer different prompts nothing is concluded."""


class Unrelated(NamedTuple):
    """A response that may well be that of another prompt.

    Attributes:
        place: Its row.
        share: Share of the other prompts that have at least as much in common with it as its own.
        compared: How many those are.
        nearest: Row of the prompt that has most in common with it.
    """

    place: int
    share: float
    compared: int
    nearest: int


def unrelated_responses(prompts: Sequence[str], responses: Sequence[str], share: float) -> list[Unrelated]:
    """Rows whose response has no more in common with its prompt than with some share of the other prompts.

    What two texts have in common is the sum of the squared weights of their common runs over the length of the prompt,
    with log(1 + texts / texts that have it) as the weight of a run. A response that has nothing in common with any
    prompt, as in another script, says nothing and is left alone.

    Args:
        prompts: What each row was given; one without words is left alone.
        responses: What is answered.
        share: Largest share of the other prompts that may have as much in common with a response as its own.

    Returns:
        The rows, ascending.
    """
    first = {text: place for place, text in reversed(list(enumerate(prompts))) if words(text)}
    if len(first) < FEWEST_PROMPTS:
        return []
    counts = Counter(run for text in (*prompts, *responses) for run in runs(text))
    weights = {run: math.log(1 + 2 * len(prompts) / count) ** 2 for run, count in counts.items()}
    different = sorted(first.values())
    size = min(COMPARED, len(different))
    drawn = [different[number * len(different) // size] for number in range(size)]
    row_of: dict[str, int] = {}
    for place in drawn:
        for run in sorted(runs(prompts[place])):
            row_of.setdefault(run, len(row_of))
    table = np.zeros((len(row_of), len(drawn)), dtype=np.float32)
    for column, place in enumerate(drawn):
        found = sorted(runs(prompts[place]))
        table[[row_of[run] for run in found], column] = [weights[run] / _length(found, weights) for run in found]
    result = []
    for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        if prompt not in first or len(words(response)) < FEWEST_WORDS:
            continue
        asked, answered = runs(prompt), runs(response)
        own = np.float32(sum(weights[run] for run in sorted(asked & answered)) / _length(sorted(asked), weights))
        others = table[[row_of[run] for run in sorted(answered) if run in row_of]].sum(axis=0)
        is_other = np.array([prompts[other] != prompt for other in drawn])
        if max(own, others.max()) == 0 or not is_other.any():
            continue
        as_near = float((others[is_other] >= own * ROUNDED).mean())
        if as_near > share:
            nearest = drawn[int(np.where(is_other, others, -1).argmax())]
            result.append(Unrelated(place, as_near, int(is_other.sum()), nearest))
    return result


ROUNDED = np.float32(1 - 1e-5)
"""Sums that differ by less are equal to rounding."""


def runs(text: str) -> set[str]:
    """The runs of characters of the words of a text.

    Args:
        text: Any text.
    """
    return {word[start : start + RUN] for word in set(words(text)) for start in range(max(1, len(word) - RUN + 1))}


def _length(found: Sequence[str], weights: dict[str, float]) -> float:
    return math.sqrt(sum(weights[run] for run in found)) or 1.0
