"""Which weights of a model are measured, and the matrices their gradients are projected with.

``linear``: every linear layer inside the transformer blocks, in the order of ``model.named_modules()``; never the
embeddings, the vocabulary head, norms or biases. ``lora``: the adapters of a PEFT model, ``lora_A`` before ``lora_B``;
for a model without adapters those that fresh ones would be: B = 0, so the gradient of A is exactly zero and is left
out, and that of B is scale * sum over tokens of g (A x)^T. A fresh adapter thus is an input projection like any other
and the model itself stays untouched.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from spice_select.config import GradientConfig
from spice_select.errors import UnsupportedProxyError
from spice_select.gradients.projection import make_sketch
from spice_select.models.projection_shape import sketch_shape


@dataclass(frozen=True)
class Target:
    """One measured weight.

    Attributes:
        name: Name of its module, without the wrappers of PEFT.
        module: The layer whose input and output gradient are watched.
        inputs: Matrix of shape (p_in, i) that projects inputs, or None where they are kept.
        outputs: Matrix of shape (p_out, o) that projects output gradients, or None where they are kept.
        scale: Factor of the finished product.
        inputs_first: Whether the weight is stored (i, o), as in Conv1D, and not (o, i).
        start: First column of its features.
        size: Number of its features, p_in * p_out.
    """

    name: str
    module: nn.Module
    inputs: torch.Tensor | None
    outputs: torch.Tensor | None
    scale: float
    inputs_first: bool
    start: int
    size: int

    @property
    def weight(self) -> torch.Tensor:
        """The measured weight itself."""
        weight: torch.Tensor = self.module.weight  # type: ignore[assignment]
        return weight


def find_targets(model: nn.Module, config: GradientConfig) -> list[Target]:
    """The measured weights of a model, in the order of the features.

    Args:
        model: A causal language model of transformers, plain or wrapped by PEFT.
        config: ``targets``, ``sketch_dim``, ``lora_rank``, ``lora_alpha`` and ``seed`` are read.

    Returns:
        Targets whose feature columns follow one another from 0.

    Raises:
        UnsupportedProxyError: Blocks that cannot be found, or weights in them that are no linear layer (experts).
    """
    layers = list(linear_layers(model))
    adapters = [(name, layer) for name, layer in layers if is_adapter(name)]
    plain = [(name, layer) for name, layer in layers if not is_adapter(name)]
    chosen = adapters if config.targets == "lora" and adapters else plain
    if not chosen:
        raise UnsupportedProxyError(f"{type(model).__name__} has no linear layer in its transformer blocks")
    fresh = config.targets == "lora" and not adapters
    targets: list[Target] = []
    start = 0
    for name, layer in chosen:
        target = _make_target(name, layer, config, start, fresh=fresh)
        targets.append(target)
        start += target.size
    return targets


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every linear layer of the transformer blocks, adapters included.

    Args:
        model: The model to look through.

    Yields:
        Names without the wrappers of PEFT, in the order of ``named_modules``.

    Raises:
        UnsupportedProxyError: A weight matrix in the blocks that no hook on a linear layer can see.
    """
    blocks = _block_lists(model)
    if not blocks:
        raise UnsupportedProxyError(f"no list of transformer blocks found in {type(model).__name__}")
    for name, module in model.named_modules():
        if not name.startswith(blocks):
            continue
        if isinstance(module, (nn.Linear, Conv1D)):
            if not module.weight.is_floating_point():
                raise UnsupportedProxyError(f"{name} holds quantised weights, whose gradients cannot be taken")
            yield _plain_name(name), module
            continue
        for weight, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                kind = type(module).__name__
                raise UnsupportedProxyError(
                    f"{name}.{weight} ({kind}) is no linear layer: mixtures of experts are not supported"
                    if "expert" in f"{name}{kind}".lower() or "router" in kind.lower()
                    else f"{name}.{weight} ({kind}) is no linear layer"
                )


def _block_lists(model: nn.Module) -> tuple[str, ...]:
    """Name prefixes of the outermost lists of modules that hold linear layers."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(prefix) for prefix in found)
        linear = isinstance(module, nn.ModuleList) and any(isinstance(m, (nn.Linear, Conv1D)) for m in module.modules())
        if linear and not inside:
            found.append(f"{name}.")
    return tuple(found)


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").removesuffix(".base_layer")


def is_adapter(name: str) -> bool:
    """Whether a layer of this name is one of the two of an adapter.

    Args:
        name: As ``linear_layers`` yields it.
    """
    return ".lora_A." in name or ".lora_B." in name


def _make_target(name: str, layer: Any, config: GradientConfig, start: int, *, fresh: bool) -> Target:
    weight: torch.Tensor = layer.weight
    inputs_first = isinstance(layer, Conv1D)
    in_features, out_features = weight.shape if inputs_first else (weight.shape[1], weight.shape[0])
    width = config.lora_rank if fresh else in_features
    shape = sketch_shape(width, out_features, config.sketch_dim)
    label = f"{name}.lora_B" if fresh else name
    sketch = make_sketch(label, shape, config.seed, dtype=weight.dtype, device=weight.device)
    inputs, scale = sketch.inputs, sketch.scale
    if fresh:
        down = fresh_adapter(name, config.lora_rank, in_features, config.seed)
        if inputs is not None:
            down = inputs.to(device="cpu", dtype=torch.float64) @ down
        inputs = down.to(device=weight.device, dtype=weight.dtype)
        scale *= config.lora_alpha / config.lora_rank
        inputs_first = False
    return Target(name, layer, inputs, sketch.outputs, scale, inputs_first, start, shape.size)


def fresh_adapter(name: str, rank: int, in_features: int, seed: int) -> torch.Tensor:
    """Matrix A of a fresh adapter, drawn as PEFT does (uniform within 1/sqrt(i)) but the same on every machine.

    Args:
        name: Name of the adapted layer.
        rank: Rows, r.
        in_features: Width of the layer's input, i.
        seed: Seed of the run.

    Returns:
        float64 of shape (r, i), every value exact in float32.
    """
    count = rank * in_features
    stream = hashlib.shake_256(f"spice-select lora 1|{name}|{seed}".encode()).digest(4 * count)
    unit = (np.frombuffer(stream, dtype="<u4").astype(np.float64) + 0.5) / 2**31 - 1.0
    values = (unit / math.sqrt(in_features)).astype(np.float32).astype(np.float64)
    return torch.from_numpy(values).view(rank, in_features)
