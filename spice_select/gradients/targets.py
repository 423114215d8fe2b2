"""Which weights of a model are measured, and the matrices their gradients are projected with.

``linear``: every linear layer inside the transformer blocks, or the last half of them, in the order of
``model.named_modules()``; never the embeddings, the vocabulary head, norms or biases. ``lora``: the adapters of a
PEFT model, ``lora_A`` before ``lora_B``; for a model without adapters those that fresh ones would be: B = 0, so the
gradient of A is exactly zero and is left out, and that of B is scale * sum over tokens of g (A x)^T. A fresh adapter
thus is an input projection like any other and the model itself stays untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from spice_select.config import GradientConfig
from spice_select.errors import UnsupportedProxyError
from spice_select.gradients.projection import make_sketch
from spice_select.models.layers import fresh_adapter, is_adapter, linear_layers
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
        config: ``targets``, ``layers``, ``sketch_dim``, ``lora_rank``, ``lora_alpha`` and ``seed`` are read.

    Returns:
        Targets whose feature columns follow one another from 0.

    Raises:
        UnsupportedProxyError: Blocks that cannot be found, or weights in them that are no linear layer (experts).
    """
    layers = list(linear_layers(model, last_half=config.layers == "last_half"))
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
