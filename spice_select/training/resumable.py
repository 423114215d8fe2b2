"""Optimiser steps on a model that can be taken up again where they were interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from spice_select.config import GradientConfig
from spice_select.errors import MismatchedShardError
from spice_select.models.lora import adapter_weights, attach
from spice_select.records.tokenize import Example
from spice_select.training.steps import Tuner, training_mode
from spice_select.training.warmup import Steps

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers about each weight, beside the number of steps."""


class ResumableTuner:
    """Steps on a model, what they leave, and the way back to it.

    Args:
        model: Gets adapters where they are to be tuned and a warm-up has left none.
        config: How a step is taken.
    """

    def __init__(self, model: Any, config: GradientConfig) -> None:
        self._model, self._seed = model, config.seed
        if config.tuning.weights == "full":
            self.weights = {name: weight for name, weight in model.named_parameters() if weight.is_floating_point()}
        else:
            if not adapter_weights(model):
                attach(model, config.lora_rank, config.lora_alpha, config.seed)
            self.weights = adapter_weights(model)
        with self._trainable():
            self._tuner = Tuner(model, list(self.weights.values()), Steps.of(config.tuning))

    def step(self, examples: Sequence[Example], number: int) -> float:
        """One step on these rows; dropout, where the model has any, is drawn anew for each.

        Args:
            examples: The rows.
            number: How many steps there were before.
        """
        with self._trainable(), training_mode(self._model, self._seed + number):
            return self._tuner.step(examples)

    @property
    def halvings(self) -> int:
        """How often a step was taken in smaller pieces for lack of memory."""
        return self._tuner.halvings

    def _trainable(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        trained = set(self.weights.values())
        for parameter in self._model.parameters():
            parameter.requires_grad_(parameter in trained)
        return stack

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and AdamW's memory by name, copies."""
        found = {f"weights.{name}": _copy(weight) for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            memory = self._tuner.optimizer.state[weight]
            found |= {f"{moment}.{name}": _copy(memory[moment]) for moment in MOMENTS}
        return found

    def restore(self, tensors: dict[str, np.ndarray], steps: int) -> None:
        """Go back to where ``tensors`` was called.

        Args:
            tensors: What it returned.
            steps: Steps that had been taken.

        Raises:
            MismatchedShardError: The weights are those of another model.
        """
        shapes = {
            f"{kind}.{name}": tuple(w.shape) for kind in ("weights", *MOMENTS) for name, w in self.weights.items()
        }
        if shapes != {name: array.shape for name, array in tensors.items()}:
            raise MismatchedShardError("the checkpoint is not one of this model")
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(torch.from_numpy(tensors[f"weights.{name}"]))
                self._tuner.optimizer.state[weight] = {
                    "step": torch.tensor(float(steps)),
                    **{
                        moment: torch.from_numpy(tensors[f"{moment}.{name}"].copy()).to(weight.device)
                        for moment in MOMENTS
                    },
                }


def _copy(tensor: torch.Tensor | nn.Parameter) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
