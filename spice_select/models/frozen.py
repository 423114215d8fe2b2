"""Borrow a model for measuring and hand it back as it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(model: nn.Module) -> Generator[None]:
    """Evaluation mode without trainable weights; afterwards everything is as it was.

    Args:
        model: Whose ``requires_grad`` and ``training`` flags are set.

    Yields:
        Nothing.
    """
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        model.requires_grad_(requires_grad=False)
        yield
    finally:
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)
        for module, flag in training.items():
            module.training = flag


@contextmanager
def arithmetic(model: nn.Module, dtype: torch.dtype) -> Generator[None]:
    """Weights in another type; afterwards the very same weights are back.

    Args:
        model: Whose parameters change type; its buffers keep theirs.
        dtype: Floating type to compute in.

    Yields:
        Nothing.
    """
    original = {p: p.data for p in model.parameters() if p.is_floating_point() and p.dtype != dtype}
    try:
        for parameter, data in original.items():
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in original.items():
            parameter.data = data
