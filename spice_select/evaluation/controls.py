"""What a choice is compared with: draws of the same size, and plantings that must lose if anything can be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from spice_select.records.tokenize import IGNORED, Example
from spice_select.selection.baselines import length_matched_order, random_order, stratified_order


def random_rows(size: int, count: int, seed: int) -> list[int]:
    """Rows at random.

    Args:
        size: Rows in the pool, n.
        count: How many, at most n.
        seed: Seed of the draw.
    """
    return [int(row) for row in random_order(size, seed)[:count]]


def random_rows_of_tokens(tokens: Sequence[int], budget: int, seed: int) -> list[int]:
    """Rows at random until their tokens are as close to the budget as the last of them allows; one row at least.

    Args:
        tokens: Tokens of every row of the pool.
        budget: Tokens wanted.
        seed: Seed of the draw.
    """
    chosen: list[int] = []
    total = 0
    for row in random_order(len(tokens), seed).tolist():
        if chosen and abs(total + tokens[row] - budget) > abs(total - budget):
            break
        chosen.append(row)
        total += tokens[row]
    return chosen


def length_matched_rows(tokens: Sequence[int], chosen: Sequence[int], seed: int) -> list[int]:
    """Rows at random with the histogram of lengths of a choice, so that long rows are not what is compared.

    Args:
        tokens: Tokens of every row of the pool.
        chosen: Rows of the choice.
        seed: Seed of the draw.
    """
    return length_matched_order(torch.tensor(tokens, dtype=torch.float64), chosen, seed).tolist()


def group_matched_rows(groups: Sequence[str], chosen: Sequence[int], seed: int) -> list[int]:
    """Rows at random with as many rows of each group as a choice, so that the mix is not what is compared.

    Args:
        groups: Group of every row of the pool.
        chosen: Rows of the choice.
        seed: Seed of the draw.
    """
    wanted = Counter(groups[row] for row in chosen)
    rows = []
    for row in random_order(len(groups), seed).tolist():
        if wanted[groups[row]] > 0:
            wanted[groups[row]] -= 1
            rows.append(row)
    return rows


def stratified_rows(groups: Sequence[str], count: int, seed: int) -> list[int]:
    """Rows at random with the groups' shares of the pool.

    Args:
        groups: Group of every row of the pool.
        count: How many.
        seed: Seed of the draw.
    """
    codes = {name: code for code, name in enumerate(sorted(set(groups)))}
    order = stratified_order(torch.tensor([codes[name] for name in groups]), seed)
    return [int(row) for row in order[:count]]


def one_group_rows(groups: Sequence[str], count: int, seed: int) -> list[int] | None:
    """Rows at random of the largest group only; None when there is one group, or too few rows in the largest.

    Args:
        groups: Group of every row of the pool.
        count: How many.
        seed: Seed of the draw.
    """
    sizes = Counter(groups)
    # The largest; of equals the first by name, whatever the order of the rows.
    largest = min(sizes, key=lambda name: (-sizes[name], name))
    if len(sizes) < 2 or sizes[largest] < count:
        return None
    inside = [row for row, name in enumerate(groups) if name == largest]
    return [inside[place] for place in random_order(len(inside), seed)[:count].tolist()]


def with_nonsense(examples: Sequence[Example], seed: int) -> list[Example]:
    """The same prompts, each response token replaced by one drawn from all the response tokens of these rows.

    Args:
        examples: Rows.
        seed: Seed of the draw.
    """
    pot = torch.tensor([label for example in examples for label in example.labels[1:] if label != IGNORED])
    draw = torch.Generator().manual_seed(seed)
    broken = []
    for example in examples:
        places = [place for place, label in enumerate(example.labels) if place and label != IGNORED]
        ids, labels = list(example.input_ids), list(example.labels)
        drawn = pot[torch.randint(len(pot), (len(places),), generator=draw)].tolist() if places else []
        for place, token in zip(places, drawn, strict=True):
            ids[place] = labels[place] = token
        broken.append(Example(ids, labels))
    return broken
