"""Numbers of two bytes: float16 and bfloat16 to and from float32, the latter without a package that knows it."""

from __future__ import annotations

from typing import Literal

import numpy as np

StoreDtype = Literal["float32", "float16", "bfloat16"]


def narrowed(values: np.ndarray, dtype: StoreDtype) -> np.ndarray:
    """Finite float32 values in the type they are kept in, to the nearest, ties to even; bfloat16 as uint16 of its bits.

    Args:
        values: float32 of any shape. What is too large for float16 becomes infinite.
        dtype: The type.
    """
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return values


def widened(values: np.ndarray) -> np.ndarray:
    """What ``narrowed`` made, as float32, exactly.

    Args:
        values: float32, float16, or uint16 that holds the bits of bfloat16.
    """
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def rounded(values: np.ndarray, dtype: StoreDtype) -> np.ndarray:
    """float32 values as they will be read again.

    Args:
        values: float32 of any shape; not finite ones stay so.
        dtype: The type they are kept in.
    """
    return values if dtype == "float32" else np.where(np.isfinite(values), widened(narrowed(values, dtype)), values)
