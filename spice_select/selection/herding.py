"""Herding (Welling 2009): each pick maximises g . w, then w += m - g, so that the set's mean stays the pool's.

Nothing bounds g . w from earlier values, and there is no gain beside it: each pick costs one pass over the pool.
"""

from __future__ import annotations

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.matching_rule import pool_mean
from spice_select.selection.scoring import NOTHING, TIE


class Remainder:
    """g . w of every sample, current.

    Args:
        candidates: The pool.

    Attributes:
        mean_norm: |m|; zero when the gradients of the pool cancel.
        sums: g . (sum of the picks) of every sample, float64 of shape (n,) on the CPU.
        total: Sum of the picks, float64 of shape (d,).
        count: Number of picks, t.
    """

    def __init__(self, candidates: GradientMatrix) -> None:
        self._candidates = candidates
        self._mean, self.mean_norm = pool_mean(candidates)
        nothing = torch.zeros(candidates.size, dtype=torch.float64)
        self._means = candidates.products(self._mean).cpu() if self.mean_norm > 0 else nothing
        self.sums = torch.zeros(candidates.size, dtype=torch.float64)
        self.total = torch.zeros_like(self._mean)
        self.count = 0

    def values(self) -> torch.Tensor:
        """The products g . w of all samples, float64 of shape (n,) on the CPU."""
        return (self.count + 1) * self._means - self.sums

    def rounding(self) -> torch.Tensor:
        """Below what difference two values are a tie, float64 of shape (n,) on the CPU."""
        return TIE * ((self.count + 1) * self._means.abs() + self.sums.abs())

    def add(self, gradient: torch.Tensor) -> None:
        """A sample joins the set.

        Args:
            gradient: Its gradient, float64 of shape (d,).
        """
        self.sums += self._candidates.products(gradient).cpu()
        self.total += gradient
        self.count += 1


class Herding:
    """Chooses the row with the largest g . w: the set whose mean stays closest to the pool's.

    Args:
        candidates: The pool.
    """

    def __init__(self, candidates: GradientMatrix) -> None:
        self._candidates, self._remainder = candidates, Remainder(candidates)
        self._row = -1

    def choose(self, allowed: torch.Tensor) -> tuple[int, float] | None:
        """The next row and its g . w, ties to the lower row, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        if not bool(allowed.any()):
            return None
        values = self._remainder.values().masked_fill(~allowed, NOTHING)
        self._row = first_of_ties(values, self._remainder.rounding())
        return self._row, float(values[self._row])

    def ahead(self, allowed: torch.Tensor) -> torch.Tensor:
        """Only the choice itself is known.

        Args:
            allowed: Rows that may be chosen; not needed.
        """
        del allowed
        return torch.tensor([self._row])

    def take(self, row: int) -> None:
        """Add a row to the set.

        Args:
            row: The row.
        """
        self._remainder.add(self._candidates.take(torch.tensor([row]))[0])


def first_of_ties(scores: torch.Tensor, tolerances: torch.Tensor) -> int:
    """Place of the largest score, the lowest place among those that tie with it.

    Args:
        scores: float64 of shape (m,).
        tolerances: How far from each another score still ties, shape (m,).
    """
    top = int(scores.argmax())
    return int(torch.nonzero(scores >= scores[top] - tolerances[top])[0])
