"""The linear layers of a model's transformer blocks, and the adapters that fresh ones would be.

Never the embeddings, the vocabulary head, norms or biases.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from spice_select.errors import UnsupportedProxyError


def linear_layers(model: nn.Module, *, last_half: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every linear layer of the transformer blocks, adapters included.

    Args:
        model: The model to look through.
        last_half: Only those of the last half of the blocks, of an odd number of the larger half.

    Yields:
        Names without the wrappers of PEFT, in the order of ``named_modules``.

    Raises:
        UnsupportedProxyError: A weight matrix in the blocks that no hook on a linear layer can see.
    """
    blocks = _block_lists(model)
    if not blocks:
        raise UnsupportedProxyError(f"no list of transformer blocks found in {type(model).__name__}")
    for name, module in model.named_modules():
        if not name.startswith(blocks) or (last_half and _is_in_first_half(model, name, blocks)):
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


def check_layers(model: nn.Module) -> None:
    """Refuse a model of which no gradient can be taken, before any sample is read.

    Args:
        model: A causal language model of transformers, plain or wrapped by PEFT.

    Raises:
        UnsupportedProxyError: No linear layer in the blocks, or weights in them that are no linear layer.
    """
    if not list(linear_layers(model)):
        raise UnsupportedProxyError(f"{type(model).__name__} has no linear layer in its transformer blocks")


def _block_lists(model: nn.Module) -> tuple[str, ...]:
    """Name prefixes of the outermost lists of modules that hold linear layers."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(prefix) for prefix in found)
        linear = isinstance(module, nn.ModuleList) and any(isinstance(m, (nn.Linear, Conv1D)) for m in module.modules())
        if linear and not inside:
            found.append(f"{name}.")
    return tuple(found)


def _is_in_first_half(model: nn.Module, name: str, blocks: tuple[str, ...]) -> bool:
    prefix = next(prefix for prefix in blocks if name.startswith(prefix))
    count = len(model.get_submodule(prefix.removesuffix(".")))  # type: ignore[arg-type]
    return int(name.removeprefix(prefix).split(".")[0]) < count // 2


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").removesuffix(".base_layer")


def is_adapter(name: str) -> bool:
    """Whether a layer of this name is one of the two of an adapter.

    Args:
        name: As ``linear_layers`` yields it.
    """
    return ".lora_A." in name or ".lora_B." in name


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
