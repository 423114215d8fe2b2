"""A matrix in pieces: arrays of rows on top of each other, memory maps among them, read only where asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spice_select.half_precision import widened


class Stacked:
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
