"""Matching the pool's mean: what the chosen set still lacks, as a term of the score.

With m the mean gradient of the pool, w starts at m and every pick g adds m - g to it, so after t picks
w = (t + 1) m - (sum of the picks): what must still be chosen for the mean of the set to stay that of the pool.

    score = eta Delta_x(S) - lambda conflict(x|S) + weight g . w / |m|

The last term rises and falls with the picks, so no earlier value bounds it. Its products are kept as those of targets
are (``PickProducts``); gains and conflicts stay lazy.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.pick_products import PickProducts
from spice_select.selection.scoring import Proposal, Rule, Tolerance, lowest_of_ties

CANCELS = 1e-12
"""A mean shorter than this share of the mean length is rounding: the gradients cancel, and nothing is matched."""


def pool_mean(candidates: GradientMatrix) -> tuple[torch.Tensor, float]:
    """The mean gradient of the pool and its length, zero when the gradients cancel.

    Args:
        candidates: The pool.

    Returns:
        float64 of shape (d,) and |m|.
    """
    mean = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
    for _, block in candidates.blocks():
        mean += block.sum(dim=0)
    mean /= candidates.size
    norm = float(mean.norm())
    typical = float(candidates.squared_norms.sqrt().mean())
    return mean, norm if norm > CANCELS * typical else 0.0


class MatchingRule:
    """Compares candidates by gain, conflict and what the set still lacks; stands where ``Rule`` stands without.

    Args:
        candidates: The pool.
        mean: Its mean gradient, float64 of shape (d,).
        norm: |m| > 0.
        weight: Weight of the matching term, > 0.
        rule: Weights of gain and conflict, and costs.

    Attributes:
        penalty: Weight of the conflict with the set, lambda >= 0.
        costs: Cost of every row, when scores count per cost.
    """

    has_own_conflicts: ClassVar[bool] = False
    needs_products: ClassVar[bool] = True
    bounds_hold: ClassVar[bool] = False

    def __init__(self, candidates: GradientMatrix, mean: torch.Tensor, norm: float, weight: float, rule: Rule) -> None:
        self._candidates, self._norm, self._weight, self._rule = candidates, norm, weight, rule
        self.penalty, self.costs = rule.penalty, rule.costs
        self._means = candidates.products(mean).cpu()
        self._start()

    def _start(self) -> None:
        self._products, self._count = PickProducts(self._candidates, 1), 0

    def fresh(self) -> MatchingRule:
        """The same rule before the first pick."""
        rule = object.__new__(MatchingRule)
        rule.__dict__.update(self.__dict__)
        rule._start()
        return rule

    def bounds(self, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Upper bounds on the scores from upper bounds on the gains, because a conflict is never negative.

        Args:
            gains: Upper bounds on the gains, nats, shape (m,).
            rows: Their rows, shape (m,).
        """
        uppers = self._rule.weight * gains + self._lacking(rows) + self._error(rows)
        return self._rule.per_cost(self._rule.charged(uppers, rows), rows)

    def scores(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Scores, or upper bounds on them from upper bounds on the gains.

        Args:
            gains: Gains, nats, shape (m,).
            conflicts: Conflicts with the set, shape (m,).
            rows: Rows, shape (m,), whose terms are exact.
        """
        scores = self._rule.weight * gains - self.penalty * conflicts + self._lacking(rows)
        return self._rule.per_cost(self._rule.charged(scores, rows), rows)

    def best(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> tuple[Proposal, Tolerance]:
        """The highest score, ties to the lower row, and how far from it another score still ties.

        Args:
            gains: Gains, nats, -inf for rows that may not be chosen, shape (m,), on the CPU.
            conflicts: Conflicts with the set, shape (m,).
            rows: Rows, shape (m,), whose terms are exact.
        """
        scores = self.scores(gains, conflicts, rows)
        top = int(scores.argmax())
        gain, against, row = gains[top], conflicts[top], rows[top : top + 1]
        terms = (self._count + 1) * self._means[row].abs() + self._products.sums[0, row].abs()
        size = self._rule.weight * gain + self.penalty * against + self._weight * terms / self._norm
        size = size if self._rule.charges is None else size + self._rule.charges[row]
        size = self._rule.per_cost(size, row)
        return lowest_of_ties(scores, gains, conflicts, rows, self._rule.tie, float(size))

    def for_every_task(self, gains: torch.Tensor, rows: torch.Tensor, size: int) -> MatchingRule:
        """There is one task only.

        Args:
            gains: Not needed.
            rows: Not needed.
            size: Not needed.
        """
        del gains, rows, size
        return self

    def settle(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Compute the terms of rows exactly.

        Args:
            rows: Row numbers, int64 of shape (m,).
            gradients: Their gradients, float64 of shape (m, d).
        """
        self._products.settle(rows, gradients)

    def unsettled(self, rows: torch.Tensor) -> torch.Tensor:
        """Those of the rows whose terms are not exact.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return rows[self._products.errors[0, rows] > 0.0]

    def prepare(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Take the products of rows that may be picked soon with the whole pool, in float32.

        Args:
            rows: Row numbers, int64 of shape (c,).
            gradients: Their gradients, float64 of shape (c, d).
        """
        self._products.prepare(rows, gradients)

    def offer(self, row: int, column: torch.Tensor, error: float) -> None:
        """Products of a row that may be picked with the whole pool.

        Args:
            row: The row.
            column: The products, shape (n,) on the CPU.
            error: Bound on their error, relative to the product of the lengths.
        """
        self._products.offer(row, column, error)

    def keep(self, rows: torch.Tensor) -> None:
        """Forget what was prepared for other rows.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        self._products.keep(rows)

    def accept(
        self,
        row: int,
        gradient: torch.Tensor,
        near: torch.Tensor | None = None,
        products: torch.Tensor | None = None,
        copy: int = -1,
    ) -> None:
        """Count a pick.

        Args:
            row: The pick.
            gradient: Its gradient, float64 of shape (d,).
            near: Rows whose products with it are known exactly.
            products: Those products, float64 of shape (m,) on the CPU.
            copy: The next identical row, or -1.
        """
        self._products.add(0, row, gradient, near, products, copy)
        self._count += 1

    def _lacking(self, rows: torch.Tensor) -> torch.Tensor:
        """Weight g . w / |m|."""
        values: torch.Tensor = (self._count + 1) * self._means[rows] - self._products.sums[0, rows]
        return values * (self._weight / self._norm)

    def _error(self, rows: torch.Tensor) -> torch.Tensor:
        return self._products.errors[0, rows] * (self._weight / self._norm)
