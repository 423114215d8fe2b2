"""The random control that stands beside every report: what as many rows drawn at random are worth."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spice_select.config import SelectionConfig
from spice_select.selection.baselines import random_order
from spice_select.selection.gradient_matrix import GradientMatrix, Gradients
from spice_select.selection.greedy import conditional_utility


def random_control(
    gradients: Gradients | GradientMatrix,
    config: SelectionConfig,
    count: int,
    seed: int,
    *,
    given: Gradients | None = None,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
) -> float:
    """Utility (nats) of ``count`` rows drawn at random with this seed: what a choice has to beat.

    Args:
        gradients: Per-sample gradients of shape (n, d).
        config: The run's settings; alpha is used.
        count: Rows to draw, at most n.
        seed: Seed of the draw.
        given: Gradients already owned, shape (m, d): the utility is what the draw adds to them.
        must_include: Rows that are in every draw.
        exclude: Rows that are in none.
    """
    curve = random_curve(gradients, config, count, seed, 1, given=given, must_include=must_include, exclude=exclude)
    return curve[-1][1] if curve else 0.0


def random_curve(
    gradients: Gradients | GradientMatrix,
    config: SelectionConfig,
    count: int,
    seed: int,
    points: int = 6,
    *,
    given: Gradients | None = None,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
) -> list[tuple[int, float]]:
    """``random_control`` on the way there: utilities of the first rows of the same draw.

    Args:
        gradients: Per-sample gradients of shape (n, d).
        config: The run's settings; alpha is used.
        count: Rows to draw, at most n.
        seed: Seed of the draw.
        points: Most numbers of rows; each is about twice the one before, so all cost little more than the last.
        given: Gradients already owned, shape (m, d): the utility is what the draw adds to them.
        must_include: Rows that come first in every draw.
        exclude: Rows that are in none.

    Returns:
        Number of rows and utility (nats), ascending; the last is ``count`` and ``random_control``.
    """
    candidates = gradients if isinstance(gradients, GradientMatrix) else GradientMatrix(gradients)
    order = random_order(candidates.size, seed)
    first = torch.zeros(candidates.size, dtype=torch.bool)
    never = first.clone()
    first[torch.tensor(list(must_include), dtype=torch.int64)] = True
    never[torch.tensor(list(exclude), dtype=torch.int64)] = True
    drawn = torch.cat([order[first[order]], order[~first[order] & ~never[order]]])[:count]
    owned = None if given is None else GradientMatrix(given)
    beside = None if owned is None else owned.take(torch.arange(owned.size)).to(candidates.device)
    sizes = sorted({len(drawn) >> step for step in range(points)} - {0})
    return [(size, conditional_utility(candidates, drawn[:size], beside, config.alpha)) for size in sizes]
