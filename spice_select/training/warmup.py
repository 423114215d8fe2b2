"""Warm-up: some optimiser steps on a sample of the pool before the gradients are taken.

A fresh adapter has B = 0, so the gradient of its A is exactly zero; after a warm-up both halves have one. What a
warm-up leaves is a set of named weights that is put onto the model again wherever gradients are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from spice_select.config import GradientConfig, Tuning
from spice_select.errors import MismatchedShardError
from spice_select.models.batch_memory import MICRO_TOKENS
from spice_select.models.frozen import arithmetic
from spice_select.models.lora import adapted, adapter_weights, attach, whole
from spice_select.records.tokenize import Example
from spice_select.training.steps import Schedule, Spent, train


@dataclass(frozen=True)
class Steps:
    """Settings of the optimiser's steps, see ``tuning.StepSettings``."""

    learning_rate: float
    weight_decay: float
    clip: float
    micro_tokens: int = MICRO_TOKENS

    @classmethod
    def of(cls, tuning: Tuning) -> Steps:
        """The steps that these settings ask for."""
        return cls(tuning.learning_rate, tuning.weight_decay, tuning.clip)


def tuning_type(config: GradientConfig) -> torch.dtype:
    """Type in which a model is tuned: small steps are lost on weights of half precision.

    Args:
        config: Its ``dtype`` is that of the gradients.
    """
    return torch.float64 if config.dtype == "float64" else torch.float32


def warm_up(
    model: Any,
    examples: Sequence[Example],
    config: GradientConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[dict[str, np.ndarray], Spent]:
    """Tune a model on a sample of the pool and hand it back as it was.

    Args:
        model: A causal language model of transformers without adapters.
        examples: The sample, none empty.
        config: ``warmup_steps``, ``tuning``, ``lora_rank``, ``lora_alpha``, ``dtype`` and ``seed`` are read.
        on_progress: Called as (steps taken, all steps) after each.
        should_stop: Asked before every step.

    Returns:
        The tuned weights by name, float32 (float64 for float64), and what the tuning cost. The same input gives the
        same bytes on the same kind of machine.

    Raises:
        Stopped: ``should_stop`` said so.
        UnsupportedProxyError: The model has adapters already.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    tuning = config.tuning
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(arithmetic(model, tuning_type(config)))
        way = adapted(model, config.lora_rank, config.lora_alpha, config.seed)
        weights = stack.enter_context(way if tuning.weights == "lora" else whole(model))
        schedule = Schedule(config.warmup_steps, "tokens", 0, tuning.step_tokens)
        spent = train(
            model,
            list(weights.values()),
            examples,
            schedule,
            Steps.of(tuning),
            seed=config.seed,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        return {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()}, spent


def put_on(model: Any, tuned: Mapping[str, np.ndarray], config: GradientConfig) -> None:
    """Put the weights that a warm-up left onto the model it was done on, in the model's own type.

    Args:
        model: Changed in place; gets adapters where they were tuned.
        tuned: What ``warm_up`` returned.
        config: As it was given to ``warm_up``.

    Raises:
        MismatchedShardError: The weights are those of another model or of other settings.
    """
    if config.tuning.weights == "lora":
        attach(model, config.lora_rank, config.lora_alpha, config.seed)
        weights = adapter_weights(model)
    else:
        weights = {name: weight for name, weight in model.named_parameters() if weight.is_floating_point()}
    if {name: tuple(weight.shape) for name, weight in weights.items()} != {
        name: array.shape for name, array in tuned.items()
    }:
        raise MismatchedShardError("the warmed-up weights are not those of this model")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(tuned[name]))
