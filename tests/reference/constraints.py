"""Slow, obvious twin of what a budget allows: at each step every completion that is still possible is looked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tests.reference.selection import utility


def can_be_completed(
    chosen: Sequence[int],
    groups: Sequence[str],
    costs: Sequence[float],
    limit: float,
    floors: Mapping[str, int],
    caps: Mapping[str, int],
    forced: Sequence[int],
    forbidden: Sequence[int],
) -> bool:
    """Whether these rows and the cheapest others that forced rows and floors still call for fit the limit and the caps.

    Args:
        chosen: Rows chosen so far.
        groups: Group of every row.
        costs: What every row costs.
        limit: Most that may be spent.
        floors: Least number of rows of a group.
        caps: Largest number of rows of a group.
        forced: Rows that must be chosen.
        forbidden: Rows that are never chosen.
    """
    rows = {*chosen, *forced}
    for group, floor in floors.items():
        have = sum(groups[row] == group for row in rows)
        free = sorted(
            (costs[row], row)
            for row in range(len(groups))
            if groups[row] == group and row not in rows and row not in forbidden
        )
        if len(free) < floor - have:
            return False
        rows |= {row for _, row in free[: max(0, floor - have)]}
    counts = {group: sum(groups[row] == group for row in rows) for group in caps}
    return sum(costs[row] for row in rows) <= limit and all(counts[group] <= caps[group] for group in caps)


def constrained_select(
    gradients: np.ndarray,
    *,
    penalty: float,
    groups: Sequence[str],
    costs: Sequence[float],
    limit: float,
    floors: Mapping[str, int],
    caps: Mapping[str, int],
    forced: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    per_cost: bool = False,
) -> list[int]:
    """SPICE under floors, caps and one limit (alpha 1), trying every row at every step.

    Args:
        gradients: float64 of shape (n, d).
        penalty: Weight of the conflict, lambda.
        groups: Group of every row.
        costs: What every row costs; ones for a budget in samples.
        limit: Most that may be spent.
        floors: Least number of rows of a group.
        caps: Largest number of rows of a group.
        forced: Rows that come before any other.
        forbidden: Rows that are never chosen.
        per_cost: Compare scores per cost.
    """
    chosen: list[int] = []
    while True:
        waiting = [row for row in forced if row not in chosen]
        options = []
        for row in waiting or range(len(gradients)):
            if row in chosen or row in forbidden:
                continue
            if not can_be_completed([*chosen, row], groups, costs, limit, floors, caps, forced, forbidden):
                continue
            g = gradients[row]
            gain = utility(gradients[[*chosen, row]], 1.0) - utility(gradients[chosen], 1.0)
            mean = gradients[chosen].mean(axis=0) if chosen else np.zeros_like(g)
            against = max(0.0, -float(g @ mean) / (np.linalg.norm(g) * np.linalg.norm(mean) + 1e-8))
            score = gain - penalty * against
            options.append((score / costs[row] if per_cost else score, row))
        if not options:
            return chosen
        best = max((score for score, _ in options), default=-math.inf)
        chosen.append(min(row for score, row in options if score >= best - 1e-11))
