"""The gradients of examples, for whoever has a model at hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from spice_select.config import GradientConfig
from spice_select.gradients.per_sample import GradientProgress, measure
from spice_select.records.tokenize import Example


def collect_gradients(
    model: Any,
    examples: Sequence[Example],
    config: GradientConfig,
    *,
    on_progress: GradientProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """Gradient of each example's loss, g_i; see `measure` for the losses and counts beside it.

    Args:
        model: A causal language model of transformers, plain or with PEFT adapters; left as it was found.
        examples: What to measure.
        config: What is measured about each.
        on_progress: Called after each batch.
        should_stop: Asked before each batch.

    Returns:
        float32 tensor of shape (n, d) on the CPU, row i for example i; zeros where the gradient is not finite,
        with a warning.

    Raises:
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by measure()
    measured = measure(model, examples, config, on_progress=on_progress, should_stop=should_stop)
    broken = (~measured.finite).nonzero().flatten().tolist()
    if broken:
        named = ", ".join(map(str, broken[:10]))
        warnings.warn(f"{len(broken)} gradients are not finite and were set to zero: {named}", stacklevel=2)
    return measured.features
