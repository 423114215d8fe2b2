"""Rows kept in pieces and in two bytes a number: stacked arrays that are read only where asked, float16 and bfloat16.

bfloat16 is read and written without a package that knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class StackedArrays:
    """Arrays stacked by rows. Rows come out as copies, so nothing but what is asked for is ever in memory.

    Args:
        pieces: Arrays of shape (m_i, d) and of one dtype, at least one. Of uint16 they hold the bits of bfloat16.

    Attributes:
        shape: (n, d), n the sum of the m_i.
        dtype: Of the rows: that of every piece, float32 for those of two bytes.
        ndim: 2.

    Raises:
        ValueError: No piece, or pieces of unlike width or dtype.
    """

    ndim = 2

    def __init__(self, pieces: Sequence[np.ndarray]) -> None:
        if len({(piece.shape[1:], piece.dtype) for piece in pieces}) != 1 or pieces[0].ndim != 2:
            raise ValueError("pieces must be matrices of one width and one dtype, at least one")
        self._pieces = list(pieces)
        self._ends = np.cumsum([len(piece) for piece in pieces])
        self.shape = (int(self._ends[-1]), int(pieces[0].shape[1]))
        self.dtype = _as_numbers(pieces[0][:0]).dtype

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows by number, or a run of them.

        Args:
            rows: A slice without a step, or int64 row numbers of shape (m,), in any order, none negative.

        Returns:
            The rows, shape (m, d).
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            firsts = self._ends - [len(piece) for piece in self._pieces]
            parts = [
                piece[max(0, start - first) : max(0, stop - first)]
                for piece, first, end in zip(self._pieces, firsts, self._ends, strict=True)
                if first < stop and end > start
            ]
            return _as_numbers(np.concatenate(parts or [self._pieces[0][:0]]))
        found = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        owner = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(owner):
            piece, mine = self._pieces[number], owner == number
            found[mine] = _as_numbers(piece[rows[mine] - (self._ends[number] - len(piece))])
        return found


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """Values of two bytes as float32; others as they are."""
    return widened(values) if values.dtype.itemsize == 2 else values
