"""How often the paper's loop takes a step (T): what is chosen, and what the model and the choice are worth then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from spice_select.evaluation.training import losses_of
from spice_select.records.tokenize import Example
from spice_select.selection.baselines import random_order
from spice_select.selection.logdet import log_determinant
from spice_select.training.periodic import select_periodically

INTERVALS: tuple[int | None, ...] = (None, 1, 10, 50)
"""Windows between two steps; None takes no step and stands for the choice before any."""
WINDOW = 16
"""Rows in a window: small, so that a pool of about a thousand has a step left for T of 50."""


def chosen_with(folder: Path, examples: Sequence[Example], every: int | None, fraction: float) -> dict[str, Any]:
    """What the loop chooses with one T, starting from a model in a folder.

    Args:
        folder: Of the model.
        examples: The pool.
        every: Windows between two steps.
        fraction: Share of the pool to choose.
    """
    gradients = ss.GradientConfig(normalize="none")  # of length one, all first picks of a window would tie
    config = ss.RunConfig.model_validate(
        {
            "gradients": gradients.model_dump(),
            "selection": {"budget": {"fraction": fraction}, "scope": {"kind": "windows", "size": WINDOW}},
            "schedule": {"kind": "periodic", "steps_every": every},
        }
    )
    proxy = ss.load_proxy(ss.ProxyConfig(model=str(folder.resolve())), gradients)
    held = list(examples[:: max(1, len(examples) // 100)])
    before = float(losses_of(proxy.model, held).mean())
    found = select_periodically(proxy.model, examples, config)
    return {
        "rows": [pick.row for pick in found.progress.picks],
        "windows": found.windows,
        "steps": len(found.progress.step_losses),
        "loss_moved": float(losses_of(proxy.model, held).mean()) - before,
    }


def intervals(found: dict[int | None, dict[str, Any]], gradients: torch.Tensor) -> tuple[bool, str]:
    """Whether the choice is the same for every T, and the numbers.

    Args:
        found: What was chosen with each T.
        gradients: Of the model before any step, of shape (n, d); utilities are by these.
    """
    usual = set(found[10]["rows"])
    count = len(usual)
    draws = [random_order(len(gradients), 2000 + draw)[:count].tolist() for draw in range(20)]
    chance = sum(_utility(gradients, rows) for rows in draws) / len(draws)
    told, shares = [], {}
    for every, one in found.items():
        shares[every] = len(usual & set(one["rows"])) / max(1, count)
        name = "no step" if every is None else f"T {every}"
        told.append(
            f"{name}: {one['steps']} steps in {one['windows']} windows, {shares[every]:.0%} shared with T 10, utility "
            f"{_utility(gradients, one['rows']):.2f} by the model before any step, whose loss on pool rows moved "
            f"by {one['loss_moved']:+.3f}"
        )
    same = all(shares[every] >= 0.8 for every in (1, 50))
    return same, f"{count} of {len(gradients)} rows: {'; '.join(told)}; random rows: utility {chance:.2f}"


def _utility(gradients: torch.Tensor, rows: Sequence[int]) -> float:
    return float(log_determinant(gradients[list(rows)], 1.0))
