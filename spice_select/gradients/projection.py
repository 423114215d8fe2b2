"""Two-sided random projections of weight gradients: unbiased for inner products, seeded by the layer's name.

The gradient of a layer's weight is a sum over tokens of outer products g x^T, so projecting g and x on their own
projects the gradient: (P g)(Q x)^T = P (g x^T) Q^T. With independent signs of variance 1/p on each side,

    E <P A Q^T, P B Q^T> = <A, B>,   Var <= ((1 + 2/p_in)(1 + 2/p_out) - 1) |A|^2 |B|^2

whatever the shape of the layer. The signs come from SHAKE-256 of name, seed and side, so every machine draws the same.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch

from spice_select.models.projection_shape import SketchShape

SKETCH_VERSION = "1"


@dataclass(frozen=True)
class Sketch:
    """The projection of one layer.

    Attributes:
        shape: Its sizes.
        inputs: Signs of shape (p_in, i), or None where the input is not projected.
        outputs: Signs of shape (p_out, o), or None where the output gradient is not projected.
        scale: What a product of the two projected sides is multiplied with, 1 / sqrt of the projected sides' p.
    """

    shape: SketchShape
    inputs: torch.Tensor | None
    outputs: torch.Tensor | None
    scale: float


def make_sketch(
    layer: str,
    shape: SketchShape,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Sketch:
    """The projection of a layer; the same for the same name, shape and seed on every machine.

    Args:
        layer: Name of the layer.
        shape: Sizes of its sides.
        seed: Seed of the run.
        dtype: Type of the signs, the one the layer computes in (signs are exact in every type).
        device: Where the layer is.
    """
    inputs = outputs = None
    scale = 1.0
    if shape.p_in < shape.in_features:
        inputs = _signs(f"{layer}|in|{seed}", shape.p_in, shape.in_features).to(device=device, dtype=dtype)
        scale /= math.sqrt(shape.p_in)
    if shape.p_out < shape.out_features:
        outputs = _signs(f"{layer}|out|{seed}", shape.p_out, shape.out_features).to(device=device, dtype=dtype)
        scale /= math.sqrt(shape.p_out)
    return Sketch(shape, inputs, outputs, scale)


def _signs(key: str, rows: int, columns: int) -> torch.Tensor:
    """Independent +1 and -1, int8 of shape (rows, columns)."""
    count = rows * columns
    stream = hashlib.shake_256(f"spice-select sketch {SKETCH_VERSION}|{key}".encode()).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count)
    return torch.from_numpy(bits.astype(np.int8) * 2 - 1).view(rows, columns)
