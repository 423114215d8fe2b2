"""Columns of the kernel K = G G^T in float32: products of a pick with the whole pool, and how far they can be off."""

from __future__ import annotations

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lowrank import SINGLE_ROUNDING

KERNEL_ROWS = 8192
"""Samples up to which the whole kernel may be kept (256 MiB in float32); does not affect results."""
SINGLE_BYTES = 512 * 2**20
"""Size of the pool in float32 up to which its columns are taken one by one, bytes; does not affect results."""
WORTH = 16
"""Beyond one pick in so many rows the whole kernel costs less than columns: a product of matrices reaches the speed of
the processor, one with a vector only that of the memory. Does not affect results."""
FEATURES = 512
"""Features that are summed in float32 before they are added up in float64."""
TOGETHER = 512
"""Rows of the kernel that are computed together; does not affect results."""


def fits(candidates: GradientMatrix) -> bool:
    """Whether columns can be had: the pool fits in float32, by its size and by its range.

    Args:
        candidates: The pool.
    """
    return 4 * candidates.size * candidates.dimension <= SINGLE_BYTES and candidates.in_single_range


class KernelColumns:
    """Products of single rows with all rows.

    Args:
        candidates: The pool, for which ``fits`` holds.
        picks: How many columns will be asked for, as far as known.

    Attributes:
        error: Bound on the error of a product, relative to the product of the lengths.
    """

    def __init__(self, candidates: GradientMatrix, picks: int) -> None:
        self._rows = candidates.single()
        features = min(candidates.dimension, FEATURES)
        # A sum of m products in any order is off by at most about m roundings; factors are rounded once or twice.
        self.error = (features + 8) * SINGLE_ROUNDING
        self._kernel: torch.Tensor | None = None
        if candidates.size <= KERNEL_ROWS and WORTH * picks > candidates.size:
            self._kernel = self._whole()
            self.error += -(-candidates.dimension // FEATURES) * SINGLE_ROUNDING

    def column(self, row: int) -> torch.Tensor:
        """Products of a row with every row, shape (n,) on the CPU.

        Args:
            row: Its number.
        """
        if self._kernel is not None:
            return self._kernel[row].cpu()
        vector = self._rows[row]
        products = torch.zeros(len(self._rows), dtype=torch.float64, device=self._rows.device)
        for first in range(0, len(vector), FEATURES):
            part = slice(first, first + FEATURES)
            products += self._rows[:, part] @ vector[part]
        return products.cpu()

    def _whole(self) -> torch.Tensor:
        size, dimension = self._rows.shape
        kernel = self._rows.new_zeros(size, size)
        for start in range(0, size, TOGETHER):
            block = slice(start, min(start + TOGETHER, size))
            upper = kernel[block, start:]
            for first in range(0, dimension, FEATURES):
                part = slice(first, first + FEATURES)
                upper.addmm_(self._rows[block, part], self._rows[start:, part].T)
            kernel[block.stop :, block] = upper[:, block.stop - start :].T
        return kernel
