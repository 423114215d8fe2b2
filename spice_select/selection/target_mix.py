"""The mix of groups that targets imply: to which groups the pool's nearest rows of each target row belong.

Each target row has one vote, which its nearest rows of the pool share; the shares of a target's votes are its mix, and
the mixes of the targets are added up by their weights. A target of 30 sums makes a mix of sums, one of 20 sums and 10
tales a mix of two thirds and a third, however many of each the pool holds, as long as it holds enough to be near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from spice_select.selection.gradient_matrix import GradientMatrix

NEIGHBOURS = 10
"""Rows of the pool that share the vote of a target row."""
MOST_VOTERS = 256
"""Rows of a target that vote; of more, so many evenly spaced ones."""


def target_votes(
    candidates: GradientMatrix, targets: Sequence[torch.Tensor], exclude: Sequence[int] = ()
) -> torch.Tensor:
    """Which part of the votes of each target falls to each row of the pool, in one pass over it.

    Args:
        candidates: The pool.
        targets: Gradients of the rows of each target, float64 of shape (m, d).
        exclude: Rows that stand for nothing.

    Returns:
        float64 of shape (targets, n), each row adding up to 1, or to 0 where no row of the pool is left.
    """
    voters = [rows[:: -(-len(rows) // MOST_VOTERS)] for rows in targets]
    sizes, every = [len(rows) for rows in voters], torch.cat(voters)
    lengths = candidates.squared_norms.sqrt()
    allowed = torch.ones(candidates.size, dtype=torch.bool, device=candidates.device)
    allowed[torch.tensor(exclude, dtype=torch.int64)] = False
    best = torch.full((len(every), NEIGHBOURS), -torch.inf, dtype=torch.float64, device=candidates.device)
    rows = torch.zeros(len(every), NEIGHBOURS, dtype=torch.int64, device=candidates.device)
    for start, block in candidates.blocks():
        part = slice(start, start + len(block))
        cosines = (every @ block.T) / lengths[part].clamp(min=torch.finfo(torch.float64).tiny)
        cosines[:, ~allowed[part]] = -torch.inf
        places = torch.arange(start, start + len(block), device=candidates.device).expand(len(every), -1)
        values, rows = torch.cat([best, cosines], dim=1), torch.cat([rows, places], dim=1)
        order = values.argsort(dim=1, descending=True, stable=True)[:, :NEIGHBOURS]
        best, rows = values.gather(1, order), rows.gather(1, order)
    votes = torch.zeros(len(targets), candidates.size, dtype=torch.float64)
    parts = zip(torch.split(best.cpu(), sizes), torch.split(rows.cpu(), sizes), strict=True)
    for target, (cosines, near) in enumerate(parts):
        found = torch.isfinite(cosines)
        shares = found.double() / (found.sum(dim=1, keepdim=True).clamp(min=1) * len(cosines))
        votes[target].index_add_(0, near[found], shares[found])
    return votes


def mix_of(votes: torch.Tensor, weights: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Share of each group in the mix that the targets imply together.

    Args:
        votes: As ``target_votes`` returns them.
        weights: Weight of each target.
        groups: Group of each row.
    """
    total = torch.tensor(weights, dtype=torch.float64) @ votes / sum(weights)
    mix: dict[str, float] = {}
    for row in torch.nonzero(total).flatten().tolist():
        mix[groups[row]] = mix.get(groups[row], 0.0) + float(total[row])
    return mix


def floors_for(mix: Mapping[str, float], count: int, available: Counter[str]) -> dict[str, int]:
    """How many rows of each group make the mix, by largest remainders, as far as there are so many.

    What a group has too few rows for is left to the rule, so that the floors may add up to less than the count.

    Args:
        mix: Share of each group, adding up to 1.
        count: Rows to select.
        available: Rows of each group that can be selected.
    """
    exact = {name: share * count for name, share in mix.items()}
    floors = {name: int(number + 1e-9) for name, number in exact.items()}
    rest = min(count, round(sum(exact.values()))) - sum(floors.values())
    for name in sorted(exact, key=lambda one: (floors[one] - exact[one], one))[:rest]:
        floors[name] += 1
    return {name: min(number, available[name]) for name, number in sorted(floors.items()) if number > 0}
