"""The greedy with every gain brought up to date at every pick: for gradients of few numbers cheaper than any bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lazy_greedy import LazyGreedy, replayed
from spice_select.selection.logdet import PRECISION, FisherLogDet, PrecisionLostError
from spice_select.selection.scoring import ComparisonRule, Proposal


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
        return replayed(self._candidates, self._alpha, self._rule, self._copies, given, picks, self.refreshed)

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
