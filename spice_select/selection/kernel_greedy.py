"""Exact greedy for scores that rise and fall with the picks: one column of the kernel for each pick.

The products of a pick with the whole pool come in float32 with a proven bound on their error; gains only fall, so an
earlier one is an upper bound. Together they bound every score from above. Whoever may win by these bounds gets its
terms, then its gain and its conflict, in float64, until nobody else can win.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spice_select.selection.active_block import absorb
from spice_select.selection.conflict import conflict
from spice_select.selection.gain_bounds import GainBounds
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.kernel_columns import KernelColumns
from spice_select.selection.lazy_greedy import LazyGreedy, replayed
from spice_select.selection.logdet import PRECISION, PrecisionLostError
from spice_select.selection.scoring import NOTHING, ComparisonRule, Proposal, Rule

AT_ONCE = 4
"""Candidates whose gains are brought up to date together at first; does not affect results."""
SETTLED_AT_ONCE = 32
"""Candidates whose terms are computed exactly together; does not affect results."""


class KernelGreedy:
    """Proposes the next pick, exactly, for rules that need the products of the picks.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
        rule: What candidates are compared by.
        copies: For every row the next identical one, or -1, int64 of shape (n,).
        picks: How many picks there will be, as far as known.
    """

    def __init__(
        self, candidates: GradientMatrix, alpha: float, rule: ComparisonRule, copies: torch.Tensor, picks: int
    ) -> None:
        self._candidates, self._alpha, self._rule, self._copies = candidates, alpha, rule, copies
        self._known = GainBounds(candidates, alpha, 5 * candidates.dimension // 2)
        self._fisher = self._known.fisher
        self._columns = KernelColumns(candidates, picks)
        self._norms = candidates.squared_norms.cpu()
        self._waiting = torch.zeros(candidates.size, dtype=torch.bool)  # copies behind an identical row
        self._waiting[copies[copies >= 0]] = True
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)

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
        return replayed(self._candidates, self._alpha, self._rule, self._copies, given, picks, self.refreshed)

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
        bounds = self._rule.bounds(self._known.uppers[rows], rows)
        seen, conflicts = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
        found, least, count = None, NOTHING, AT_ONCE
        while True:
            tops, places = bounds.topk(min(max(count, SETTLED_AT_ONCE), len(rows)))
            places = places[(tops >= least) & (tops > NOTHING)]
            if len(self._rule.unsettled(rows[places[:count]])) > 0:
                unsettled = self._rule.unsettled(rows[places])
                self._rule.settle(unsettled, self._candidates.take(unsettled))
                bounds[places] = self._rule.bounds(self._known.uppers[rows[places]], rows[places])
                continue
            places = places[:count]
            if len(places) == 0:
                assert found is not None
                return found.beside(float(bounds.max()))
            seen = torch.cat([seen, rows[places]])
            conflicts = torch.cat([conflicts, self._refresh(rows[places])])
            bounds[places] = NOTHING
            gains = torch.log1p(self._alpha * self._known.forms(seen))
            found, tolerance = self._rule.best(gains, conflicts, seen)
            self._require_precision(seen, gains, found)
            least, count = found.best - tolerance.tie, 2 * count

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        row = torch.tensor([proposal.row])
        gradient, form = self._candidates.take(row), self._known.forms(row)
        scale = (self._alpha / (1.0 + self._alpha * form)).sqrt().to(gradient.device)
        self._fisher.extend(self._fisher.project(gradient) * scale, self._norms[row], form)
        self._total += gradient[0]
        self._rule.offer(proposal.row, self._columns.column(proposal.row), self._columns.error)
        copy = int(self._copies[proposal.row])
        self._rule.accept(proposal.row, gradient[0], copy=copy)
        if copy >= 0:
            self._waiting[copy] = False

    def upper_bounds(self, chosen: torch.Tensor) -> torch.Tensor:
        """Upper bounds on Delta_x(S) of every row, nats, of which the k = |chosen| largest are exact; ends the run.

        Args:
            chosen: Rows of S, int64 of shape (k,).

        Returns:
            float64 of shape (n,), zero for the chosen rows.
        """
        others = torch.ones(self._candidates.size, dtype=torch.bool)
        others[chosen] = False
        if bool(others.any()):
            count = max(1, len(chosen))
            self._known.largest(torch.nonzero(others).flatten(), count, Rule(0.0), count)
        return self._known.uppers.masked_fill(~others, 0.0)

    def _refresh(self, rows: torch.Tensor) -> torch.Tensor:
        """Bring the gains of rows up to date; returns their conflicts with the set."""
        self._known.make_exact(rows[~self._known.is_exact(rows)])
        size = max(1, self._fisher.count)
        products = (self._candidates.take(rows) @ self._total).cpu() / size
        return conflict(products, self._norms[rows], float(self._total.norm()) / size)

    def _require_precision(self, rows: torch.Tensor, gains: torch.Tensor, found: Proposal) -> None:
        """Rounding must be too small to hide a better candidate or to change the gain that is reported.

        Raises:
            PrecisionLostError: It is not.
        """
        forms = self._known.forms(rows)
        uppers = torch.log1p(self._alpha * (forms + self._fisher.rounding(self._norms[rows], forms)))
        hidden = uppers - gains > PRECISION * uppers
        if bool((hidden & (self._rule.bounds(uppers, rows) >= found.score)).any()):
            raise PrecisionLostError("gradients too long for the fast way of computing gains")
