"""Exact lazy greedy for the log-determinant, in matrix-matrix products.

A gain only falls as the set grows, so the last gain computed for a sample bounds its score from above. The front is
the set of samples with the largest bounds, all of them brought up to date; everything else is outside. While the best
score of the front is above every bound outside, the greedy choice is known without touching the rest of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from spice_select.selection.active_block import ActiveBlock, absorb
from spice_select.selection.gain_bounds import GainBounds
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lazy_greedy import LazyGreedy, replayed
from spice_select.selection.logdet import PRECISION, PrecisionLostError
from spice_select.selection.scoring import NOTHING, Bounded, ComparisonRule, Proposal, Rule, Tolerance, is_settled

FRONT = 1024
"""Samples in the front of a large pool; does not affect results."""
SHARE = 16
"""One in how many samples of a smaller pool is in the front; does not affect results."""
COLUMNS = 48
"""Samples whose inner products with the front are computed together; does not affect results."""
EXACT = 4
"""One in how many of the front are brought up to date exactly together; does not affect results."""
REFRESHED = 4
"""Fewest samples of the front that are brought up to date at once after a pick; does not affect results."""


class ActiveSet:
    """Proposes the next pick, exactly. Bookkeeping lives on the CPU, matrix products on the candidates' device.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
        rule: What candidates are compared by.
        copies: For every row the next identical one, or -1, int64 of shape (n,).
    """

    def __init__(self, candidates: GradientMatrix, alpha: float, rule: ComparisonRule, copies: torch.Tensor) -> None:
        self._candidates, self._alpha, self._rule, self._copies = candidates, alpha, rule, copies
        # Up to here a pick costs less in the space of picks; beyond, P of shape (d, d) is at hand.
        self._most_in_picks = 5 * candidates.dimension // 2
        self._known = GainBounds(candidates, alpha, self._most_in_picks)
        self._fisher = self._known.fisher
        self._norms = candidates.squared_norms.cpu()
        self._waiting = torch.zeros(candidates.size, dtype=torch.bool)  # copies behind an identical row
        self._waiting[copies[copies >= 0]] = True
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._smallest = max(16, min(FRONT, candidates.size // SHARE))
        self._size = self._smallest
        self._window: ActiveBlock | None = None
        self._needed = 0  # samples refreshed for the last pick
        self._outside_bound = NOTHING

    @property
    def refreshed(self) -> int:
        """Number of times a gain was brought up to date."""
        return self._known.refreshed + (self._window.refreshed if self._window is not None else 0)

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
        return replayed(self._candidates, self._alpha, self._rule, self._copies, given, picks, self.refreshed)

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
            self._close(self._window, allowed)

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        assert self._window is not None
        self._window.pick(proposal.place)
        copy = int(self._copies[proposal.row])
        gradient = self._window.gradient(proposal.place)
        products = self._window.plain_products(proposal.place) if self._rule.needs_products else None
        self._rule.accept(proposal.row, gradient, self._rows, products, copy)
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
            self._close(self._window, None)
        others = torch.ones(self._candidates.size, dtype=torch.bool)
        others[chosen] = False
        if bool(others.any()):
            count = max(1, len(chosen))
            self._known.largest(torch.nonzero(others).flatten(), count, Rule(0.0), count)
        return self._known.uppers.masked_fill(~others, 0.0)

    def _best(self, window: ActiveBlock, allowed: torch.Tensor) -> Proposal | None:
        """Best of the front if nothing outside can be better, else None."""
        closed = self._taken | ~allowed[self._rows]
        if window.is_full or bool(closed.all()):
            return None
        conflicts = window.conflicts()
        found, tolerance = self._best_inside(window, closed, conflicts)
        self._require_precision(window, closed, found)
        if not self._is_best_outside(found, tolerance, allowed):
            return None
        found = found.beside(self._outside_bound)
        if window.column_of[found.place] < 0:
            scores = self._rule.scores(window.likely_gains(), conflicts, self._rows).masked_fill_(closed, NOTHING)
            scores.masked_fill_((window.column_of >= 0) | ~window.exact, NOTHING)[found.place] = math.inf
            likely = scores.topk(min(COLUMNS, len(scores))).indices
            likely = likely[scores[likely] > NOTHING]
            window.add_columns(likely)
            self._rule.prepare(self._rows[likely], window.gradients(likely))
        is_known = self._rule.penalty > 0.0 or self._rule.has_own_conflicts
        return found if is_known else found._replace(conflict=window.conflict_of(found.place))

    def _is_best_outside(self, found: Proposal, tolerance: Tolerance, allowed: torch.Tensor) -> bool:
        """Whether nothing outside the front can be better."""
        if self._rule.bounds_hold and self._outside_bound < found.best - tolerance.tie:
            return True
        outside = torch.nonzero(self._outside & allowed).flatten()
        bounds = self._rule.bounds(self._known.uppers[outside], outside)
        unsettled = self._rule.unsettled(outside[bounds >= found.best - tolerance.tie])
        if len(unsettled) > 0:
            self._rule.settle(unsettled, self._candidates.take(unsettled))
            bounds = self._rule.bounds(self._known.uppers[outside], outside)
        if not self._rule.bounds_hold:
            self._outside_bound = float(bounds.max()) if len(bounds) > 0 else NOTHING
        return is_settled(found, tolerance, bounds, outside)

    def _best_inside(
        self, window: ActiveBlock, closed: torch.Tensor, conflicts: torch.Tensor
    ) -> tuple[Proposal, Tolerance]:
        """Best of the front, of which only those are refreshed that may be it, and how far from it another ties."""
        uppers = self._rule.scores(torch.log1p(self._alpha * (window.forms + self._rounding)), conflicts, self._rows)
        uppers.masked_fill_(closed | window.current & window.exact, NOTHING)
        count = max(REFRESHED, self._needed // 2)
        stale, self._needed = self._stale(uppers, count, NOTHING), 0
        while True:
            self._needed += len(stale)
            if len(stale) > 0:
                self._make_exact(window, stale, uppers)
                window.refresh(stale)
                uppers[stale] = NOTHING
            unknown = closed | ~(window.current & window.exact)
            found, tolerance = self._rule.best(window.gains().masked_fill_(unknown, NOTHING), conflicts, self._rows)
            count *= 2
            stale = self._stale(uppers, count, found.best - tolerance.tie)
            if len(stale) == 0:
                return found.beside(float(uppers.max())), tolerance

    @staticmethod
    def _stale(uppers: torch.Tensor, count: int, least: float) -> torch.Tensor:
        """Places of the largest bounds that are not below ``least``, at most ``count``."""
        bounds, places = uppers.topk(min(count, len(uppers)))
        return places[(bounds >= least) & (bounds > NOTHING)]

    def _make_exact(self, window: ActiveBlock, places: torch.Tensor, uppers: torch.Tensor) -> None:
        """Let these places and the likeliest others that were only screened have exact forms."""
        if bool(window.exact[places].all()):
            return
        others = uppers.masked_fill(window.exact, NOTHING).topk(max(1, len(uppers) // EXACT)).indices
        asked = torch.zeros_like(window.exact)
        asked[places] = asked[others] = True
        wanted = torch.nonzero(asked & ~window.exact).flatten()
        if window.in_picks:
            window.fill(wanted)
        else:
            self._known.make_exact(self._rows[wanted])
            window.fill(wanted, self._known.forms(self._rows[wanted]))

    def _require_precision(self, window: ActiveBlock, closed: torch.Tensor, found: Proposal) -> None:
        """Rounding must be too small to hide a better candidate or to change the gain that is reported.

        Raises:
            PrecisionLostError: It is not.
        """
        gains = window.gains()
        uppers = torch.log1p(self._alpha * (window.forms + self._rounding))
        hidden = (uppers - gains > PRECISION * uppers) & ~closed & window.current
        if bool((hidden & (self._rule.bounds(uppers, self._rows) >= found.score)).any()):
            raise PrecisionLostError("gradients too long for the fast way of computing gains")

    def _open(self, rows: torch.Tensor) -> ActiveBlock:
        """A window on those of the rows with the largest bounds."""
        in_picks = self._fisher.count <= self._most_in_picks
        exact = 0 if in_picks else max(1, self._size // EXACT)
        self._rows = self._known.largest(rows, self._size, self._likely(rows), exact)
        if self._fisher.count == 0:
            self._include_first(rows)
        self._taken = torch.zeros(len(self._rows), dtype=torch.bool)
        norms, forms = self._norms[self._rows], self._known.uppers_of_forms(self._rows)
        self._rounding = self._fisher.rounding(norms, forms)
        self._look_outside(rows)
        gradients = self._candidates.take(self._rows)
        self._rule.settle(self._rows, gradients)
        self._rule.keep(self._rows)
        return ActiveBlock(
            gradients,
            norms,
            forms,
            self._fisher,
            self._total,
            max(8, min(len(norms), FRONT)),
            exact=self._known.is_exact(self._rows),
            conflicts=self._rule.penalty > 0.0 or self._rule.needs_products,
            in_picks=in_picks,
        )

    def _include_first(self, rows: torch.Tensor) -> None:
        """Let the first pick and the highest score be inside, though many rows may tie: there every gain is known."""
        gains = torch.log1p(self._alpha * self._norms[rows])
        nothing = torch.zeros_like(gains)
        wanted = [
            self._rule.best(gains, nothing, rows)[0].row,
            int(rows[self._rule.scores(gains, nothing, rows).argmax()]),
        ]
        missing = [row for row in dict.fromkeys(wanted) if not bool((self._rows == row).any())]
        free = torch.nonzero(~torch.isin(self._rows, torch.tensor(wanted))).flatten()
        self._rows[free[len(free) - len(missing) :]] = torch.tensor(missing, dtype=torch.int64)

    def _renew(self, window: ActiveBlock, rows: torch.Tensor) -> None:
        """Let the rows with the largest bounds take the places of those that fell behind."""
        best = self._known.largest(rows, len(self._rows), self._likely(rows), 0)
        place_of = torch.full((self._candidates.size,), -1, dtype=torch.int64)
        place_of[self._rows[~self._taken]] = torch.nonzero(~self._taken).flatten()
        stays = torch.zeros(len(self._rows), dtype=torch.bool)
        stays[place_of[best][place_of[best] >= 0]] = True
        new, places = best[place_of[best] < 0], torch.nonzero(~stays).flatten()
        self._taken[places] = True
        places = places[: len(new)]
        self._rows[places], self._taken[places] = new, False
        norms, forms = self._norms[new], self._known.uppers_of_forms(new)
        gradients = self._candidates.take(new)
        self._rule.settle(new, gradients)
        self._rule.keep(self._rows)
        window.replace(places, gradients, norms, forms)
        self._rounding = self._fisher.rounding(self._norms[self._rows], window.forms)
        self._look_outside(rows)

    def _likely(self, rows: torch.Tensor) -> Bounded:
        """What the front is chosen by."""
        return self._rule.for_every_task(self._known.uppers[rows], rows, self._size)

    def _look_outside(self, rows: torch.Tensor) -> None:
        self._outside = torch.zeros(self._candidates.size, dtype=torch.bool)
        self._outside[rows] = True
        self._outside[self._rows[~self._taken]] = False
        outside = torch.nonzero(self._outside).flatten()
        bounds = self._rule.bounds(self._known.uppers[outside], outside)
        self._outside_bound = float(bounds.max()) if len(outside) > 0 else NOTHING

    def _close(self, window: ActiveBlock, allowed: torch.Tensor | None) -> None:
        """Carry the picks of the window into P, and what is known of its other rows into the bounds.

        The window goes on with other rows if it can, and if rows are allowed.
        """
        picked, known = window.picked, ~self._taken & window.exact
        stale = torch.nonzero(known & ~window.current).flatten()
        if len(stale) > 0:
            window.refresh(stale)
        window.flush()
        self._known.settle(self._rows[known], window.forms[known])
        rows = torch.nonzero(allowed & ~self._waiting).flatten() if allowed is not None else torch.empty(0)
        if picked == 0:
            self._size = min(2 * self._size, self._candidates.size)
        elif picked > self._size // 2:
            self._size = max(self._smallest, self._size // 2)
        lasts = window.in_picks and self._fisher.count <= self._most_in_picks and self._size == len(self._rows)
        if lasts and len(rows) > 0:
            self._renew(window, rows)
            return
        self._known.refreshed += window.refreshed
        self._window = None
