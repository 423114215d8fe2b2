"""Matching the pool's mean: what the chosen set still lacks, as a term of the greedy and as a method (herding).

With m the mean gradient of the pool, w starts at m and every pick g adds m - g to it, so after t picks
w = (t + 1) m - (sum of the picks): what must still be chosen for the mean of the set to stay that of the pool. The
term of a candidate is g . w / |m|. Unlike a gain it rises and falls, so no earlier value bounds it and nothing can be
left unread: each pick costs one pass over the pool. The same pass could bring every gain up to date, so this engine
keeps all of them current and no bounds; that makes it as exact as the lazy one, at the dense cost n d for each pick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from spice_select.selection.conflict import conflict
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lazy_greedy import Information, LazyGreedy, caught_up
from spice_select.selection.logdet import PRECISION, FisherLogDet, PrecisionLostError
from spice_select.selection.scoring import NOTHING, TIE, ComparisonRule, Proposal, Rule
from spice_select.selection.whitened_rows import WhitenedRows

CANCELS = 1e-12
"""A mean shorter than this share of the mean length is rounding: the gradients cancel, and nothing is matched."""


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
        self._mean = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        for _, block in candidates.blocks():
            self._mean += block.sum(dim=0)
        self._mean /= candidates.size
        norm = float(self._mean.norm())
        typical = float(candidates.squared_norms.sqrt().mean())
        self.mean_norm = norm if norm > CANCELS * typical else 0.0
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


class CurrentLogDet:
    """Gains under logdet with every sample brought up to date at every pick.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: GradientMatrix, alpha: float) -> None:
        self._candidates, self._fisher = candidates, FisherLogDet(candidates.dimension, alpha, candidates.device)
        self._norms = candidates.squared_norms.cpu()
        self._forms = self._norms.clone()

    def alone(self) -> torch.Tensor:
        """Gains of all rows over the empty set, nats, float64 of shape (n,) on the CPU."""
        return torch.log1p(self._fisher.alpha * self._norms)

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Gains now, nats, float64 on the CPU.

        Args:
            rows: Row numbers, int64 of shape (m,).

        Raises:
            PrecisionLostError: Rounding may have changed one of them.
        """
        alpha, forms = self._fisher.alpha, self._forms[rows]
        gains = torch.log1p(alpha * forms)
        uppers = torch.log1p(alpha * (forms + self._fisher.rounding(self._norms[rows], forms)))
        if bool((uppers - gains > PRECISION * uppers).any()):
            raise PrecisionLostError("gradients too long for the fast way of computing gains")
        return gains

    def add(self, gradient: torch.Tensor) -> None:
        """Add a sample to the set.

        Args:
            gradient: Its gradient, float64 of shape (d,).
        """
        self.add_with_products(gradient, others=False)

    def add_with_products(self, gradient: torch.Tensor, *, others: bool = True) -> torch.Tensor | None:
        """Add a sample to the set, and take its products with all samples in the same pass over the pool.

        Args:
            gradient: Its gradient, float64 of shape (d,).
            others: Whether those products are wanted.

        Returns:
            g . gradient of every sample, float64 of shape (n,) on the CPU, or None.
        """
        projected = self._fisher.project(gradient[None])[0]
        form = max(0.0, float(gradient @ projected))
        direction = projected * math.sqrt(self._fisher.alpha / (1.0 + self._fisher.alpha * form))
        wanted = torch.stack([direction, gradient], dim=1) if others else direction[:, None]
        products = self._candidates.products(wanted).cpu()
        self._forms = (self._forms - products[:, 0].square()).clamp_(min=0.0)
        norm = gradient.square().sum().cpu()[None]
        self._fisher.extend(direction[None], norm, norm.new_tensor([form]))
        return products[:, 1] if others else None


class MatchingGreedy:
    """Proposes the pick with the largest gain + weight g . w / |m| - lambda conflict, exactly.

    Args:
        candidates: The pool.
        information: Where gains come from, for the empty set.
        rule: What candidates are compared by; its penalty and its costs are used.
        weight: Weight of the matching term, > 0.
        alpha: Fisher scale.

    Attributes:
        refreshed: Number of times a gain was brought up to date.
    """

    def __init__(
        self, candidates: GradientMatrix, information: Information, rule: Rule, weight: float, alpha: float
    ) -> None:
        self._candidates, self._information, self._rule = candidates, information, rule
        self._weight, self._alpha = weight, alpha
        self._norms = candidates.squared_norms.cpu()
        self._remainder = Remainder(candidates)
        # Samples owned already belong to what conflicts are measured against, not to what must match the pool.
        self._owned = torch.zeros(candidates.size, dtype=torch.float64)
        self._owned_total = torch.zeros_like(self._remainder.total)
        self._owned_count = 0
        self.refreshed = 0

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set, before the first pick.

        Args:
            gradients: float64 of shape (m, d).
        """
        for gradient in gradients:
            self._information.add(gradient)
        total = gradients.sum(dim=0)
        self._owned += self._candidates.products(total).cpu()
        self._owned_total += total
        self._owned_count += len(gradients)

    def safer(self, given: torch.Tensor | None, picks: Sequence[Proposal]) -> MatchingGreedy:
        """The same rule after these picks, computed in the way that bears gradients of any length.

        Args:
            given: Gradients absorbed before the first pick.
            picks: The picks so far.
        """
        information = WhitenedRows(self._candidates, self._alpha)
        engine = MatchingGreedy(self._candidates, information, self._rule, self._weight, self._alpha)
        return caught_up(engine, self.refreshed, given, picks)

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The greedy choice among the allowed rows, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.

        Returns:
            The choice; ``accept`` makes it part of the set.
        """
        rows = torch.nonzero(allowed).flatten()
        if len(rows) == 0:
            return None
        gains = self._information.gains(rows)
        self.refreshed += len(rows)
        remainder, count = self._remainder, self._owned_count + self._remainder.count
        against = torch.zeros_like(gains)
        if count > 0:
            norm = float((remainder.total + self._owned_total).norm())
            against = conflict((remainder.sums + self._owned)[rows] / count, self._norms[rows], norm / count)
        scores = self._rule.weight * gains - self._rule.penalty * against
        tolerances = TIE * (self._rule.weight * gains + self._rule.penalty * against)
        if remainder.mean_norm > 0:
            scale = self._weight / remainder.mean_norm
            scores = scores + scale * remainder.values()[rows]
            tolerances = tolerances + scale * remainder.rounding()[rows]
        if self._rule.costs is not None:
            scores, tolerances = scores / self._rule.costs[rows], tolerances / self._rule.costs[rows]
        place = first_of_ties(scores, tolerances)
        return Proposal(int(rows[place]), float(gains[place]), float(against[place]), float(scores[place]), place)

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        gradient = self._candidates.take(torch.tensor([proposal.row]))[0]
        self._information.add(gradient)
        self._remainder.add(gradient)


class CurrentGreedy:
    """Proposes the best candidate of any rule with every gain brought up to date: for gradients of few numbers.

    Args:
        candidates: The pool.
        rule: What candidates are compared by; its terms must not depend on conflicts with the set.
        alpha: Fisher scale.
        copies: For every row the next identical one, or -1, for ``safer``.

    Attributes:
        refreshed: Number of times a gain was brought up to date.
    """

    def __init__(self, candidates: GradientMatrix, rule: ComparisonRule, alpha: float, copies: torch.Tensor) -> None:
        self._candidates, self._rule, self._alpha, self._copies = candidates, rule, alpha, copies
        self._information = CurrentLogDet(candidates, alpha)
        self._everything = torch.arange(candidates.size)
        self.refreshed = 0

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set, before the first pick.

        Args:
            gradients: float64 of shape (m, d).
        """
        for gradient in gradients:
            self._information.add(gradient)

    def safer(self, given: torch.Tensor | None, picks: Sequence[Proposal]) -> LazyGreedy:
        """The same rule after these picks, computed in the way that bears gradients of any length.

        Args:
            given: Gradients absorbed before the first pick.
            picks: The picks so far.
        """
        information = WhitenedRows(self._candidates, self._alpha)
        engine = LazyGreedy(self._candidates, information, self._rule.fresh(), self._copies)
        return caught_up(engine, self.refreshed, given, picks)

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The greedy choice among the allowed rows, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.

        Returns:
            The choice; ``accept`` makes it part of the set.
        """
        rows = torch.nonzero(allowed).flatten()
        if len(rows) == 0:
            return None
        gains = self._information.gains(rows)
        self.refreshed += len(rows)
        return self._rule.best(gains, torch.zeros_like(gains), rows)[0]

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        gradient = self._candidates.take(torch.tensor([proposal.row]))[0]
        products = self._information.add_with_products(gradient, others=self._rule.needs_products)
        near = None if products is None else self._everything
        self._rule.accept(proposal.row, gradient, near, products, int(self._copies[proposal.row]))


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
