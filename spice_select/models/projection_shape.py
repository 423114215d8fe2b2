"""How many numbers a layer's gradient is kept in: sizes alone, so that a service without torch can tell them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SketchShape:
    """Size of one layer's sketch.

    Attributes:
        in_features: Width of the input activations, i.
        out_features: Width of the output gradients, o.
        p_in: Numbers kept of an input; equal to i where the input is not projected.
        p_out: Numbers kept of an output gradient; equal to o where it is not projected.
    """

    in_features: int
    out_features: int
    p_in: int
    p_out: int

    @property
    def size(self) -> int:
        """Features of the layer, p_in * p_out."""
        return self.p_in * self.p_out


def sketch_shape(in_features: int, out_features: int, sketch_dim: int | None) -> SketchShape:
    """Share ``sketch_dim`` between the two sides of a layer.

    The sides get the divisor pair of ``sketch_dim`` nearest to a square, the larger one to the wider side. A side
    that is no wider than its share stays as it is and leaves the rest to the other; a layer with no more weights than
    ``sketch_dim`` is kept exactly.

    Args:
        in_features: Width of the input, i >= 1.
        out_features: Width of the output, o >= 1.
        sketch_dim: Most features of the layer; None keeps it exactly.
    """
    if sketch_dim is None or in_features * out_features <= sketch_dim:
        return SketchShape(in_features, out_features, in_features, out_features)
    small = max(divisor for divisor in range(1, math.isqrt(sketch_dim) + 1) if sketch_dim % divisor == 0)
    p_in, p_out = small, sketch_dim // small
    if in_features > out_features:
        p_in, p_out = p_out, p_in
    if in_features <= p_in:
        p_in, p_out = in_features, min(out_features, sketch_dim // in_features)
    elif out_features <= p_out:
        p_in, p_out = min(in_features, sketch_dim // out_features), out_features
    return SketchShape(in_features, out_features, p_in, p_out)
