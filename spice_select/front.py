"""Exact lazy greedy for the log-determinant, in matrix-matrix products.

A gain only falls as the set grows, so the last gain computed for a sample bounds its score from above. The front is
the set of samples with the largest bounds, all of them brought up to date; everything else is outside. While the best
score of the front is above every bound outside, the greedy choice is known without touching the rest of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from spice_select.bounds import GainBounds
from spice_select.candidates import Candidates
from spice_select.fisher import PRECISION, PrecisionLostError
from spice_select.lazy import LazyGreedy, caught_up
from spice_select.scoring import NOTHING, Proposal, Rule, is_settled
from spice_select.whitening import WhitenedRows
from spice_select.window import Window, absorb

FRONT = 512
"""Samples in the front of a large pool; does not affect results."""
COLUMNS = 48
"""Samples whose inner products with the front are computed together; does not affect results."""
EXACT = 4
"""One in how many of the front must be ahead of all samples that were only screened; does not affect results."""


class Front:
    """Proposes the next pick, exactly. Bookkeeping lives on the CPU, matrix products on the candidates' device.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
        rule: What candidates are compared by.
        copies: For every row the next identical one, or -1, int64 of shape (n,).
    """

    def __init__(self, candidates: Candidates, alpha: float, rule: Rule, copies: torch.Tensor) -> None:
        self._candidates, self._alpha, self._rule, self._copies = candidates, alpha, rule, copies
        self._known = GainBounds(candidates, alpha)
        self._fisher = self._known.fisher
        self._norms = candidates.squared_norms.cpu()
        self._waiting = torch.zeros(candidates.size, dtype=torch.bool)  # copies behind an identical row
        self._waiting[copies[copies >= 0]] = True
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._smallest = max(16, min(FRONT, candidates.size // 48))
        self._size = self._smallest
        self._window: Window | None = None

    @property
    def refreshed(self) -> int:
        """Number of times a gain was brought up to date."""
        return self._known.refreshed

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set, before the first pick.

        Args:
            gradients: float64 of shape (m, d).
        """
        absorb(gradients, self._fisher, self._total)

    def safer(self, given: torch.Tensor | None, picks: Sequence[Proposal]) -> LazyGreedy:
        """The same rule after these picks, computed in the way that bears gradients of any length.

        Args:
            given: Gradients absorbed before the first pick.
            picks: The picks so far.
        """
        information = WhitenedRows(self._candidates, self._alpha)
        engine = LazyGreedy(self._candidates, information, self._rule, self._copies)
        return caught_up(engine, self.refreshed, given, picks)

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The greedy choice among the allowed rows, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU. Rows may open again only when none of those
                allowed before is left.

        Returns:
            The choice; ``accept`` makes it part of the set.
        """
        while True:
            if self._window is None:
                rows = torch.nonzero(allowed & ~self._waiting).flatten()
                if len(rows) == 0:
                    return None
                self._window = self._open(rows)
            found = self._best(self._window, allowed)
            if found is not None:
                return found
            if self._window.picked == 0:
                self._size = min(2 * self._size, self._candidates.size)
            elif self._window.picked > self._size // 2:
                self._size = max(self._smallest, self._size // 2)
            self._close(self._window)

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        assert self._window is not None
        self._window.pick(proposal.place)
        self._known.refreshed += len(self._rows)
        copy = int(self._copies[proposal.row])
        if copy >= 0:
            # The place passes to the identical row, whose products are the same.
            self._rows[proposal.place], self._waiting[copy] = copy, False
        else:
            self._taken[proposal.place] = True

    def upper_bounds(self, chosen: torch.Tensor) -> torch.Tensor:
        """Upper bounds on Delta_x(S) of every row, nats, of which the k = |chosen| largest are exact; ends the run.

        Args:
            chosen: Rows of S, int64 of shape (k,).

        Returns:
            float64 of shape (n,), zero for the chosen rows.
        """
        if self._window is not None:
            self._close(self._window)
        others = torch.ones(self._candidates.size, dtype=torch.bool)
        others[chosen] = False
        if bool(others.any()):
            count = max(1, len(chosen))
            self._known.largest(torch.nonzero(others).flatten(), count, Rule(0.0), count)
        return self._known.uppers.masked_fill(~others, 0.0)

    def _best(self, window: Window, allowed: torch.Tensor) -> Proposal | None:
        """Best of the front if nothing outside can be better, else None."""
        closed = self._taken | ~allowed[self._rows]
        if window.is_full or bool(closed.all()):
            return None
        gains = window.gains().masked_fill_(closed, NOTHING)
        conflicts = window.conflicts()
        found, tolerance = self._rule.best(gains, conflicts, self._rows)
        self._require_precision(gains, window.forms, found)
        if self._outside_bound >= found.score - tolerance:
            outside = torch.nonzero(self._outside & allowed).flatten()
            if not is_settled(found, tolerance, self._rule.bounds(self._known.uppers[outside], outside), outside):
                return None
        if window.column_of[found.place] < 0:
            scores = gains - self._rule.penalty * conflicts
            scores.masked_fill_(window.column_of >= 0, NOTHING)[found.place] = math.inf
            likely = scores.topk(min(COLUMNS, len(scores))).indices
            window.add_columns(likely[scores[likely] > NOTHING])
        return found

    def _require_precision(self, gains: torch.Tensor, forms: torch.Tensor, found: Proposal) -> None:
        """Rounding must be too small to hide a better candidate or to change the gain that is reported.

        Raises:
            PrecisionLostError: It is not.
        """
        uppers = torch.log1p(self._alpha * (forms + self._rounding))
        hidden = (uppers - gains > PRECISION * uppers) & (gains > NOTHING)
        if bool((hidden & (self._rule.bounds(uppers, self._rows) >= found.score)).any()):
            raise PrecisionLostError("gradients too long for the fast way of computing gains")

    def _open(self, rows: torch.Tensor) -> Window:
        """A window on those of the rows with the largest gains, all up to date."""
        self._rows = self._known.largest(rows, self._size, self._rule, max(1, self._size // EXACT))
        self._taken = torch.zeros(len(self._rows), dtype=torch.bool)
        self._outside = torch.zeros(self._candidates.size, dtype=torch.bool)
        self._outside[rows] = True
        self._outside[self._rows] = False
        outside = torch.nonzero(self._outside).flatten()
        bounds = self._rule.bounds(self._known.uppers[outside], outside)
        self._outside_bound = float(bounds.max()) if len(outside) > 0 else NOTHING
        norms = self._norms[self._rows]
        self._rounding = self._fisher.rounding(norms, self._known.forms(self._rows))
        gradients, forms = self._candidates.take(self._rows), self._known.forms(self._rows)
        return Window(gradients, norms, forms, self._fisher, self._total, max(8, min(len(norms), 2 * FRONT)))

    def _close(self, window: Window) -> None:
        """Carry the picks of the window into P, and what is known of its other rows into the bounds."""
        window.close()
        left = torch.nonzero(~self._taken).flatten()
        self._known.settle(self._rows[left], window.forms[left])
        self._window = None
