"""Selections by how well a set covers the pool: facility location, k-center and the determinantal point process."""

from __future__ import annotations

import torch

from spice_select.selection.active_set import ActiveSet
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lazy_greedy import LazyGreedy
from spice_select.selection.scoring import NOTHING, Proposal, Rule

DPP_RIDGE = 1e-3
"""delta in the kernel of ``dpp``, L = cos(g_i, g_j) + delta [i = j], which keeps it regular beyond d picks."""


class Greedy:
    """Chooses what a greedy engine proposes.

    Args:
        engine: The engine, of its own set function.
        shift: Added to its scores.
    """

    def __init__(self, engine: ActiveSet | LazyGreedy, shift: float = 0.0) -> None:
        self._engine, self._shift = engine, shift
        self._proposal: Proposal | None = None

    def choose(self, allowed: torch.Tensor) -> tuple[int, float] | None:
        """The greedy choice and its gain in the engine's set function, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        self._proposal = self._engine.propose(allowed)
        return None if self._proposal is None else (self._proposal.row, self._proposal.score + self._shift)

    def ahead(self, allowed: torch.Tensor) -> torch.Tensor:
        """Only the choice itself is known.

        Args:
            allowed: Rows that may be chosen; not needed.
        """
        del allowed
        assert self._proposal is not None
        return torch.tensor([self._proposal.row])

    def take(self, row: int) -> None:
        """Add the choice to the engine's set.

        Args:
            row: Its row.
        """
        assert self._proposal is not None
        assert self._proposal.row == row
        self._engine.accept(self._proposal)


class FacilityLocation:
    """f(S) = sum over the pool of the largest max(0, cos(g_i, g_j)) with j in S.

    Args:
        candidates: The pool.
    """

    def __init__(self, candidates: GradientMatrix) -> None:
        self._units = candidates.normalized()
        self._covered = torch.zeros(candidates.size, dtype=torch.float64, device=candidates.device)

    def alone(self) -> torch.Tensor:
        """Increase of f by each row over the empty set, float64 of shape (n,) on the CPU."""
        rows = torch.arange(len(self._covered))
        return torch.cat([self.gains(part) for part in torch.split(rows, self._units.block_rows)])

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Increase of f by each row, float64 of shape (m,) on the CPU.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        facilities = self._units.take(rows)
        gains = torch.zeros(len(rows), dtype=torch.float64, device=facilities.device)
        for start, block in self._units.blocks():
            served = block @ facilities.T
            gains += served.sub_(self._covered[start : start + len(block), None]).clamp_(min=0.0).sum(dim=0)
        return gains.cpu()

    def add(self, gradient: torch.Tensor) -> None:
        """Open a facility.

        Args:
            gradient: Its gradient, float64 of shape (d,).
        """
        unit = torch.nn.functional.normalize(gradient, dim=0, eps=1e-300)
        for start, block in self._units.blocks():
            part = slice(start, start + len(block))
            self._covered[part] = torch.maximum(self._covered[part], block @ unit)


class FarthestFirst:
    """Greedy k-center: the row farthest (Euclidean) from the set; the first is the longest gradient.

    Args:
        candidates: The pool.
        given: Gradients already in the set, float64 of shape (m, d), or None.
    """

    def __init__(self, candidates: GradientMatrix, given: torch.Tensor | None) -> None:
        self._candidates = candidates
        self._is_empty = True
        self._squared = candidates.squared_norms.clone()
        for gradient in [] if given is None else given:
            self._approach(gradient)

    def choose(self, allowed: torch.Tensor) -> tuple[int, float] | None:
        """The farthest allowed row and its distance, ties to the lower row, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        if not bool(allowed.any()):
            return None
        squared = self._squared.cpu().masked_fill(~allowed, NOTHING)
        rows = torch.arange(len(squared))
        self._row = Rule(0.0).best(squared, torch.zeros_like(squared), rows)[0].row
        return self._row, float(squared[self._row].clamp(min=0.0).sqrt())

    def ahead(self, allowed: torch.Tensor) -> torch.Tensor:
        """Only the choice itself is known.

        Args:
            allowed: Rows that may be chosen; not needed.
        """
        del allowed
        return torch.tensor([self._row])

    def take(self, row: int) -> None:
        """Add a center.

        Args:
            row: Its row.
        """
        self._approach(self._candidates.take(torch.tensor([row]))[0])

    def _approach(self, center: torch.Tensor) -> None:
        if self._is_empty:
            self._squared.fill_(float("inf"))
            self._is_empty = False
        for start, block in self._candidates.blocks():
            part = slice(start, start + len(block))
            squared = (block - center).square_().sum(dim=1)
            self._squared[part] = torch.minimum(self._squared[part], squared)


def dpp(candidates: GradientMatrix, copies: torch.Tensor) -> ActiveSet:
    """Greedy MAP of the determinantal point process with the kernel L = cos + delta I.

    log det L_S = log det(I + cos / delta) + |S| log delta: the exact greedy on directions with alpha = 1 / delta.

    Args:
        candidates: The pool.
        copies: For every row the next identical one, or -1.
    """
    return ActiveSet(candidates.normalized(), 1.0 / DPP_RIDGE, Rule(0.0), copies)
