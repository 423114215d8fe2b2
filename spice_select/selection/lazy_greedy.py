"""Classic lazy greedy, exact for any information whose gains only fall: refresh the largest bounds until one stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from spice_select.selection.conflict import conflict
from spice_select.selection.gradient_matrix import BLOCK_BYTES, GradientMatrix
from spice_select.selection.scoring import NOTHING, ComparisonRule, Proposal, descending, is_settled
from spice_select.selection.whitened_rows import WhitenedRows

COARSE = 32
"""Bits of a bound that make no difference to the order of work, so that rows which may tie come lower row first."""


class Information(Protocol):
    """What a set knows; its gains never rise as the set grows."""

    def alone(self) -> torch.Tensor:
        """Gains of all rows over the empty set, nats, float64 of shape (n,) on the CPU."""

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Gains now, nats, float64 on the CPU."""

    def add(self, gradient: torch.Tensor) -> None:
        """Add a sample to the set."""


class LazyGreedy:
    """Proposes the next pick, exactly, for any ``Information``.

    Args:
        candidates: The pool.
        information: Where gains come from.
        rule: What candidates are compared by.
        copies: For every row the next identical one, or -1, int64 of shape (n,).

    Attributes:
        refreshed: Number of times a gain was brought up to date.
    """

    def __init__(
        self, candidates: GradientMatrix, information: Information, rule: ComparisonRule, copies: torch.Tensor
    ) -> None:
        self._candidates, self._information, self._rule, self._copies = candidates, information, rule, copies
        self._norms = candidates.squared_norms.cpu()
        self._waiting = torch.zeros(candidates.size, dtype=torch.bool)  # copies behind an identical row
        self._waiting[copies[copies >= 0]] = True
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._count = 0
        self._batch = max(1, min(32, BLOCK_BYTES // (8 * candidates.dimension)))
        self._gains = information.alone()
        self.refreshed = 0

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients to the set that are no candidates, or no longer.

        Args:
            gradients: float64 of shape (m, d).
        """
        for gradient in gradients:
            self._information.add(gradient)
            self._total += gradient
            self._count += 1

    def safer(self, given: torch.Tensor | None, picks: Sequence[Proposal]) -> LazyGreedy:
        """This way already bears whatever its information bears.

        Args:
            given: Gradients absorbed before the first pick; absorbed already.
            picks: The picks so far; accepted already.
        """
        del given, picks
        return self

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The greedy choice among the allowed rows, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.

        Returns:
            The choice; ``accept`` makes it part of the set.
        """
        rows = torch.nonzero(allowed & ~self._waiting).flatten()
        if len(rows) == 0:
            return None
        bounds = self._rule.bounds(self._gains[rows], rows)
        known = torch.zeros(len(rows), dtype=torch.bool)
        conflicts = torch.zeros(len(rows), dtype=torch.float64)
        batch, norm, size = self._batch, float(self._total.norm()), max(1, self._count)
        while True:
            open_bounds = bounds.masked_fill(known, NOTHING)
            places = descending(open_bounds, batch, COARSE)
            places = places[~known[places]]
            for part in torch.split(places, self._batch):
                self._gains[rows[part]] = self._information.gains(rows[part])
                gradients = self._candidates.take(rows[part])
                products = (gradients @ self._total).cpu() / size
                conflicts[part] = conflict(products, self._norms[rows[part]], norm / size)
            known[places] = True
            self.refreshed += len(places)
            seen = torch.nonzero(known).flatten()
            found, tolerance = self._rule.best(self._gains[rows[seen]], conflicts[seen], rows[seen])
            rest = torch.nonzero(~known).flatten()
            if is_settled(found, tolerance, bounds[rest], rows[rest]):
                return found.beside(float(bounds[rest].max())) if len(rest) > 0 else found
            batch *= 2

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        gradients = self._candidates.take(torch.tensor([proposal.row]))
        self.absorb(gradients)
        copy = int(self._copies[proposal.row])
        self._rule.accept(proposal.row, gradients[0], copy=copy)
        if copy >= 0:
            self._waiting[copy] = False


def replayed(
    candidates: GradientMatrix,
    alpha: float,
    rule: ComparisonRule,
    copies: torch.Tensor,
    given: torch.Tensor | None,
    picks: Sequence[Proposal],
    refreshed: int,
) -> LazyGreedy:
    """The engine that bears gradients of any length, brought to where another one stands.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
        rule: What the other compares by; it begins anew.
        copies: For every row the next identical one, or -1, int64 of shape (n,).
        given: Gradients absorbed before the first pick, float64 of shape (m, d), or None.
        picks: The picks so far.
        refreshed: Gains that the other has computed so far.
    """
    engine = LazyGreedy(candidates, WhitenedRows(candidates, alpha), rule.fresh(), copies)
    engine.refreshed = refreshed
    if given is not None:
        engine.absorb(given)
    for pick in picks:
        engine.accept(pick)
    return engine
