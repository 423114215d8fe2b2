"""Low-rank adapters: y = W x + scale B A x on every linear layer of the blocks, W fixed, B zero at the start.

Their layers carry the names that PEFT gives them, so they are measured and stored as PEFT's are.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from spice_select.errors import UnsupportedProxyError
from spice_select.models.layers import fresh_adapter, linear_layers

NAME = "default"
"""What PEFT calls the only adapter of a layer."""


class LowRank(nn.Module):
    """A linear layer with an adapter.

    Args:
        name: Name of the layer; with the seed it decides A.
        layer: The layer; it stays as it is.
        rank: Rank, r.
        scale: Factor of the adapter.
        seed: Seed of A.

    Attributes:
        lora_A: Holds A, a linear layer of weight (r, i), under ``default``.
        lora_B: Holds B, a linear layer of weight (o, r), under ``default``.
    """

    def __init__(self, name: str, layer: Any, rank: int, scale: float, seed: int) -> None:
        super().__init__()
        weight: torch.Tensor = layer.weight
        inputs, outputs = weight.shape if isinstance(layer, Conv1D) else reversed(weight.shape)
        self.base_layer, self.scale = layer, scale
        down = fresh_adapter(name, rank, inputs, seed).to(dtype=weight.dtype, device=weight.device)
        self.lora_A = nn.ModuleDict({NAME: _linear(down)})
        self.lora_B = nn.ModuleDict({NAME: _linear(weight.new_zeros(outputs, rank))})

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The layer's output and the adapter's.

        Args:
            states: Input of shape (..., i).
        """
        plain: torch.Tensor = self.base_layer(states)
        low_rank: torch.Tensor = self.lora_B[NAME](self.lora_A[NAME](states))
        return plain + self.scale * low_rank


def _linear(weight: torch.Tensor) -> nn.Linear:
    """A layer of this weight; nothing is drawn for it."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight)
    return layer


def attach(model: Any, rank: int, alpha: float, seed: int) -> dict[str, LowRank]:
    """Put fresh adapters on the linear layers of the blocks.

    Args:
        model: A causal language model of transformers without adapters; changed in place.
        rank: Rank of the adapters.
        alpha: They are multiplied by alpha / rank.
        seed: Seed of the adapters.

    Returns:
        The adapted layers by name.

    Raises:
        UnsupportedProxyError: The model has adapters already.
    """
    if hasattr(model, "peft_config") or any(isinstance(module, LowRank) for module in model.modules()):
        raise UnsupportedProxyError("the model has adapters already; train it whole, or merge them first")
    put = {name: LowRank(name, layer, rank, alpha / rank, seed) for name, layer in list(linear_layers(model))}
    for name, wrapper in put.items():
        model.set_submodule(name, wrapper)
    return put


def detach(model: Any) -> None:
    """Take the adapters of ``attach`` away.

    Args:
        model: The model; one without adapters stays as it is.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRank):
            model.set_submodule(name, module.base_layer)


def adapter_weights(model: Any) -> dict[str, nn.Parameter]:
    """A and B of every adapter by name, in the order of the layers.

    Args:
        model: A model with the adapters of ``attach``.
    """
    return {name: weight for name, weight in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}


@contextmanager
def adapted(model: Any, rank: int, alpha: float, seed: int) -> Generator[dict[str, nn.Parameter]]:
    """A model with fresh adapters and nothing else to train; afterwards it is as it was, without them.

    Args:
        model: A causal language model of transformers without adapters.
        rank: Rank of the adapters.
        alpha: They are multiplied by alpha / rank.
        seed: Seed of the adapters.

    Yields:
        The weights to train, by name.

    Raises:
        UnsupportedProxyError: The model has adapters already.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by attach()
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    attach(model, rank, alpha, seed)
    try:
        for parameter in wanted:
            parameter.requires_grad_(requires_grad=False)
        yield adapter_weights(model)
    finally:
        detach(model)
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


@contextmanager
def whole(model: Any) -> Generator[dict[str, nn.Parameter]]:
    """A model all of whose weights are trained; afterwards it is as it was.

    Args:
        model: A causal language model of transformers.

    Yields:
        The weights to train, by name; one that is used twice has one name.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.is_floating_point()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        for weight in weights.values():
            weight.requires_grad_(requires_grad=True)
        yield weights
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(start[name])
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)
            parameter.grad = None
