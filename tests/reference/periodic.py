"""The paper's loop, written down: one sample at a time, dense matrices, AdamW by hand, float64.

Nothing here imports from the package under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.reference.selection import dense_select, one_at_a_time_gradients


class ActiveBlock(NamedTuple):
    """What one window gave: rows in pick order, their gains and conflicts, utility of the set."""

    rows: list[int]
    gains: list[float]
    conflicts: list[float]
    utility: float


def periodic_select(
    model: Any,
    trained: Sequence[torch.Tensor],
    measured: Sequence[torch.Tensor],
    examples: Sequence[Any],
    windows: Sequence[tuple[Sequence[int], int]],
    *,
    steps_every: int | None,
    alpha: float,
    penalty: float,
    rate: float,
    decay: float = 0.0,
    clip: float = 1.0,
    mean: bool = True,
    unit: bool = False,
) -> tuple[list[ActiveBlock], list[float]]:
    """Window, pick, one optimiser step every so many windows on what was picked since, next window.

    Args:
        model: A causal language model in evaluation mode, float64; changed in place.
        trained: The weights that are tuned.
        measured: The weights whose gradients are taken.
        examples: The pool.
        windows: Rows of each window and how many to pick.
        steps_every: Windows between two steps; None takes none.
        alpha: Fisher scale.
        penalty: Weight of the conflict.
        rate: Learning rate.
        decay: Weight decay.
        clip: Longest gradient of a step.
        mean: Mean or sum over a sample's learned tokens, for what is measured; a step takes the mean over its rows.
        unit: Whether gradients are scaled to length one.

    Returns:
        The windows, and the loss of each step's rows before it.
    """
    first = [torch.zeros_like(weight) for weight in trained]
    second = [torch.zeros_like(weight) for weight in trained]
    found: list[ActiveBlock] = []
    losses: list[float] = []
    since: list[int] = []
    for number, (rows, count) in enumerate(windows, start=1):
        gradients, _ = one_at_a_time_gradients(model, [examples[row] for row in rows], measured, mean=mean)
        if unit:
            gradients = gradients / gradients.norm(dim=1, keepdim=True)
        matrix = gradients.double().numpy()
        # Coordinates in the span of the window: every inner product stays, and matrices are as large as the window.
        matrix = np.linalg.qr(matrix.T)[1].T
        places, gains, conflicts = dense_select(matrix, alpha=alpha, penalty=penalty, count=count)
        picks, inside = [rows[place] for place in places], matrix[places]
        utility = float(np.linalg.slogdet(np.eye(matrix.shape[1]) + alpha * inside.T @ inside)[1])
        found.append(ActiveBlock(picks, gains, conflicts, utility))
        since += picks
        if steps_every is not None and number % steps_every == 0 and number < len(windows):
            losses.append(_step(model, trained, first, second, [examples[row] for row in since], len(losses) + 1,
                                rate=rate, decay=decay, clip=clip))  # fmt: skip
            since = []
    return found, losses


def _step(
    model: Any,
    weights: Sequence[torch.Tensor],
    first: list[torch.Tensor],
    second: list[torch.Tensor],
    examples: Sequence[Any],
    number: int,
    *,
    rate: float,
    decay: float,
    clip: float,
) -> float:
    total, count = torch.zeros((), dtype=torch.float64), 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids]), use_cache=False).logits[0]
        for position in range(1, len(example.labels)):
            label = example.labels[position]
            if label != -100:
                total = total + torch.logsumexp(logits[position - 1], 0) - logits[position - 1, label]
                count += 1
    gradients = torch.autograd.grad(total / count, list(weights))
    length = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
    for weight, gradient, one, two in zip(weights, gradients, first, second, strict=True):
        gradient = gradient * min(1.0, clip / (length + 1e-6))
        one.mul_(0.9).add_(0.1 * gradient)
        two.mul_(0.999).add_(0.001 * gradient**2)
        change = (one / (1 - 0.9**number)) / ((two / (1 - 0.999**number)).sqrt() + 1e-8)
        weight.data = weight.data * (1 - rate * decay) - rate * change
    return float((total / count).detach())
