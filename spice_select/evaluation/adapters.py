"""Low-rank adapters: y = W x + scale B A x on every linear layer of the blocks, W fixed, B zero at the start."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from spice_select.errors import UnsupportedProxyError
from spice_select.targets import fresh_adapter, linear_layers


class LowRank(nn.Module):
    """A linear layer with an adapter.

    Args:
        name: Name of the layer; with the seed it decides A.
        layer: The layer; it stays as it is.
        rank: Rank, r.
        scale: Factor of the adapter.
        seed: Seed of A.
    """

    def __init__(self, name: str, layer: Any, rank: int, scale: float, seed: int) -> None:
        super().__init__()
        weight: torch.Tensor = layer.weight
        inputs, outputs = weight.shape if isinstance(layer, Conv1D) else reversed(weight.shape)
        self.layer, self.scale = layer, scale
        self.down = nn.Parameter(fresh_adapter(name, rank, inputs, seed).to(dtype=weight.dtype, device=weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, dtype=weight.dtype, device=weight.device))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The layer's output and the adapter's.

        Args:
            states: Input of shape (..., i).
        """
        plain: torch.Tensor = self.layer(states)
        return plain + self.scale * nn.functional.linear(nn.functional.linear(states, self.down), self.up)


@contextmanager
def adapted(model: Any, rank: int, alpha: float, seed: int) -> Generator[list[nn.Parameter]]:
    """A model with fresh adapters and nothing else to train; afterwards it is as it was, without them.

    Args:
        model: A causal language model of transformers without adapters.
        rank: Rank of the adapters.
        alpha: They are multiplied by alpha / rank.
        seed: Seed of the adapters.

    Yields:
        The weights to train.

    Raises:
        UnsupportedProxyError: The model has adapters already.
    """
    layers = list(linear_layers(model))
    if hasattr(model, "peft_config"):
        raise UnsupportedProxyError("the model has adapters already; train it whole, or merge them first")
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(requires_grad=False)
    put = [(name, layer, LowRank(name, layer, rank, alpha / rank, seed)) for name, layer in layers]
    try:
        for name, _, wrapper in put:
            model.set_submodule(name, wrapper)
        yield [weight for _, _, wrapper in put for weight in (wrapper.down, wrapper.up)]
    finally:
        for name, layer, _ in put:
            model.set_submodule(name, layer)
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)
