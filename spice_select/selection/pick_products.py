"""Products of every sample with the sum of the picks, where scores need them: task by task, pick by pick.

They are exact where the engine brings the products of a pick along in float64, elsewhere from float32 products with a
proven bound on their error, and exact again for whoever may win.
"""

from __future__ import annotations

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lowrank import single_error


class PickProducts:
    """G . (sum of the picks) of every sample, for each of some sets of picks.

    Args:
        candidates: The pool.
        sets: How many sets of picks there are.

    Attributes:
        sums: The products as far as known, float64 of shape (sets, n) on the CPU.
        errors: How far each can be off, float64 of shape (sets, n).
        totals: Sums of the picks, float64 of shape (sets, d).
    """

    def __init__(self, candidates: GradientMatrix, sets: int) -> None:
        self._candidates = candidates
        self._lengths = candidates.squared_norms.sqrt().cpu()
        self.sums = torch.zeros(sets, candidates.size, dtype=torch.float64)
        self.errors = torch.zeros_like(self.sums)
        self.totals = torch.zeros(sets, candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._prepared: dict[int, tuple[torch.Tensor, float]] = {}

    def settle(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Compute the products of rows exactly.

        Args:
            rows: Row numbers, int64 of shape (m,).
            gradients: Their gradients, float64 of shape (m, d).
        """
        self.sums[:, rows] = (gradients @ self.totals.T).T.cpu()
        self.errors[:, rows] = 0.0

    def prepare(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Take the products of rows that may be picked soon with the whole pool, in float32.

        Args:
            rows: Row numbers, int64 of shape (c,).
            gradients: Their gradients, float64 of shape (c, d).
        """
        if not self._candidates.in_single_range:
            return
        products = self._candidates.single_products(gradients).cpu()
        error = single_error(self._candidates.dimension)
        for row, column in zip(rows.tolist(), products, strict=True):
            self.offer(row, column, error)

    def offer(self, row: int, column: torch.Tensor, error: float) -> None:
        """Products of a row that may be picked with the whole pool, had elsewhere.

        Args:
            row: The row.
            column: The products, shape (n,) on the CPU.
            error: Bound on their error, relative to the product of the lengths.
        """
        self._prepared[row] = column, error

    def keep(self, rows: torch.Tensor) -> None:
        """Forget what was prepared for other rows.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        kept = set(rows.tolist())
        self._prepared = {row: column for row, column in self._prepared.items() if row in kept}

    def add(
        self,
        number: int,
        row: int,
        gradient: torch.Tensor,
        near: torch.Tensor | None,
        products: torch.Tensor | None,
        copy: int,
    ) -> None:
        """A sample joins a set.

        Args:
            number: Number of the set.
            row: The sample.
            gradient: Its gradient, float64 of shape (d,).
            near: Rows whose products with it are known exactly.
            products: Those products, float64 of shape (m,) on the CPU.
            copy: The next identical row, or -1.
        """
        self.totals[number] += gradient
        sums, errors = self.sums[number], self.errors[number]
        column = self._prepared.pop(row, None)
        known = kept = None
        if near is not None and products is not None:
            known, kept = sums[near] + products, errors[near]
        if near is None or len(near) < len(sums):
            if column is None:
                sums += self._candidates.products(gradient).cpu()
            else:
                sums += column[0].to(torch.float64)
                errors += column[1] * float(gradient.norm()) * self._lengths
        if known is not None and kept is not None:
            sums[near], errors[near] = known, kept
        if copy >= 0:
            self.sums[:, copy], self.errors[:, copy] = self.sums[:, row], self.errors[:, row]
            if column is not None:
                self._prepared[copy] = column
