"""A window on the pool: some candidates on which picks are cheap, refreshed one by one as they may be chosen.

With v_j = P g_j sqrt(alpha / (1 + alpha g_j^T P g_j)) for each pick j, the quadratic form of candidate i falls by
(g_i . v_j)^2, and g_i . v_j follows from inner products taken once and from the earlier g_i . v_l: a step of a
Cholesky factorisation. The inner products are those of P as it was at the opening or the last flush. In the space of
picks they follow from plain ones and all earlier steps, and the window stays open while its candidates change.
"""

from __future__ import annotations

import math

import torch

from spice_select.selection.conflict import conflict
from spice_select.selection.logdet import FisherLogDet

CANCELLED = 1e3
"""When the sum of the chosen gradients has shrunk by this factor, its products are computed anew."""


ABSORBED_TOGETHER = 256
"""Given gradients whose inner products are taken together; does not affect results."""
REMEMBERED = 0.9
"""What a refresh leaves of the earlier ones in the mean fall of a form; does not affect results."""


class ActiveBlock:
    """Candidates on which picks are cheap. Products run on the gradients' device, the rest on the CPU.

    A pick changes no form: a form stays what it was, an upper bound, until the candidate is refreshed.

    Args:
        gradients: Their gradients, float64 of shape (m, d).
        squared_norms: |g|^2, float64 of shape (m,) on the CPU.
        forms: g^T P g now, or upper bounds, float64 of shape (m,) on the CPU; None computes them.
        fisher: P.
        total: Sum of the chosen gradients, float64 of shape (d,); brought up to date in place.
        capacity: Most picks before the window must be flushed.
        exact: Whether each form is more than an upper bound, bool of shape (m,); None when all are.
        conflicts: Whether ``conflicts`` is wanted after every pick; ``conflict_of`` is there without.
        in_picks: In the space of picks: it may be flushed many times, and forms are exact once they are filled.

    Attributes:
        forms: g^T P g when each was last refreshed, float64 of shape (m,) on the CPU.
        current: Whether that was after the last pick, bool of shape (m,).
        exact: Whether a form is more than an upper bound; only these can be refreshed.
        picked: Picks made since the window was opened or flushed.
        refreshed: Forms brought up to date in this window.
        column_of: For each candidate the column that holds its products with the window, or -1.
    """

    def __init__(
        self,
        gradients: torch.Tensor,
        squared_norms: torch.Tensor,
        forms: torch.Tensor | None,
        fisher: FisherLogDet,
        total: torch.Tensor,
        capacity: int,
        *,
        exact: torch.Tensor | None = None,
        conflicts: bool = True,
        in_picks: bool = False,
    ) -> None:
        self._gradients, self._norms, self._fisher, self._total = gradients, squared_norms, fisher, total
        m = len(gradients)
        self.in_picks, self._tracks_conflicts = in_picks, conflicts
        self.forms = forms.clone() if forms is not None else (gradients * fisher.project(gradients)).sum(dim=1).cpu()
        self.current = torch.ones(m, dtype=torch.bool)
        self.exact = self.current.clone() if exact is None else exact.clone()
        self.picked = self.refreshed = 0
        self.column_of = torch.full((m,), -1, dtype=torch.int64)
        self._products = (gradients @ total).cpu() if conflicts else self.forms[:0]
        self._path = self._length = float(total.norm())
        # Products of columns and candidates: with P between them (without, for one that is not exact), and plain ones.
        self._inner = torch.empty(0, m, dtype=torch.float64)
        self._plain = torch.empty(0, m, dtype=torch.float64)
        self._projected = gradients[:0]
        # Steps that P already has; products of each candidate with v_j, up to where it was refreshed.
        self._flushed = fisher.count if in_picks else 0
        if self._flushed > 0:
            self.exact.fill_(False)
        self._steps = torch.empty(m, self._flushed + capacity, dtype=torch.float64)
        self._stamps = torch.full((m,), self._flushed, dtype=torch.int64)
        self._capacity = capacity
        self._places = torch.empty(capacity, dtype=torch.int64)
        # Row j of a pick that P does not have yet: v_l . g_j for l < j of these, then 1 / scale_j.
        self._factor = torch.empty(capacity, capacity, dtype=torch.float64)
        self._picked_forms = torch.empty(capacity, dtype=torch.float64)
        self._fallen = self._aged = 0.0  # how far forms fell lately, and over how many picks

    @property
    def is_full(self) -> bool:
        """True when no further pick can be made before flushing."""
        return self.picked == self._capacity

    def gains(self) -> torch.Tensor:
        """Marginal gains when each candidate was last refreshed, nats, float64 of shape (m,)."""
        return torch.log1p(self._fisher.alpha * self.forms)

    def likely_gains(self) -> torch.Tensor:
        """What the gains may be now, if forms go on falling as those did that were refreshed lately, shape (m,)."""
        ages = self._flushed + self.picked - self._stamps
        fallen = ages * (self._fallen / self._aged) if self._aged > 0.0 else 0.0
        return torch.log1p(self._fisher.alpha * (self.forms - fallen).clamp_(min=0.0))

    def conflicts(self) -> torch.Tensor:
        """Conflicts with the mean of the chosen gradients, in [0, 1], float64 of shape (m,); zeros if not wanted."""
        count = self._fisher.count + self.picked
        if count == 0 or not self._tracks_conflicts:
            return torch.zeros_like(self.forms)
        if self._path > CANCELLED * self._length:
            self._products = (self._gradients @ self._total).cpu()
            self._path = self._length
        return conflict(self._products / count, self._norms, self._length / count)

    def conflict_of(self, place: int) -> float:
        """Conflict of one candidate with the mean of the chosen gradients, in [0, 1].

        Args:
            place: Its place.
        """
        count = self._fisher.count + self.picked
        if count == 0:
            return 0.0
        product = (self._gradients[place] @ self._total).cpu()
        return float(conflict(product / count, self._norms[place], self._length / count))

    def gradient(self, place: int) -> torch.Tensor:
        """Gradient of a candidate, float64 of shape (d,).

        Args:
            place: Its place.
        """
        return self._gradients[place]

    def gradients(self, places: torch.Tensor) -> torch.Tensor:
        """Gradients of candidates, float64 of shape (c, d).

        Args:
            places: Their places, int64 of shape (c,).
        """
        return self._gradients[places.to(self._gradients.device)]

    def plain_products(self, place: int) -> torch.Tensor:
        """G . g of a candidate that has a column with every candidate, float64 of shape (m,).

        Args:
            place: Its place.
        """
        return self._plain[self.column_of[place]]

    def add_columns(self, places: torch.Tensor) -> None:
        """Take the window's inner products with some of its candidates, which makes them ready to be picked.

        Args:
            places: Places of exact candidates that have none yet, int64 of shape (c,).
        """
        gradients = self._gradients[places.to(self._gradients.device)]
        self.column_of[places] = torch.arange(len(places)) + len(self._inner)
        if self.in_picks:
            plain = (gradients @ self._gradients.T).cpu()
            inner = plain.clone()
            exact = torch.nonzero(self.exact).flatten()
            inner[:, exact] -= self._steps[places, : self._flushed] @ self._steps[exact, : self._flushed].T
        else:
            projected = self._fisher.project(gradients)
            others = torch.cat([projected, gradients]) if self._tracks_conflicts else projected
            inner, plain = (others @ self._gradients.T).cpu().tensor_split([len(places)])
            self._projected = torch.cat([self._projected, projected])
        self._inner, self._plain = torch.cat([self._inner, inner]), torch.cat([self._plain, plain])

    def fill(self, places: torch.Tensor, forms: torch.Tensor | None = None) -> None:
        """Put exact forms in the place of upper bounds; they count as of the last flush, or of the opening.

        Args:
            places: Places of candidates that are not exact, int64 of shape (b,).
            forms: g^T P g then, float64 of shape (b,); in the space of picks they are computed here.
        """
        if self.in_picks:
            steps = self._fisher.products(self._gradients[places.to(self._gradients.device)]).cpu()
            self._steps[places, : self._flushed] = steps
            ready = torch.nonzero(self.column_of >= 0).flatten()
            self._inner[self.column_of[ready][:, None], places] -= self._steps[ready, : self._flushed] @ steps.T
            forms = (self._norms[places] - steps.square().sum(dim=1)).clamp_(min=0.0)
        assert forms is not None
        self.forms[places], self._stamps[places] = forms, self._flushed
        self.exact[places], self.current[places] = True, self.picked == 0

    def refresh(self, places: torch.Tensor) -> None:
        """Bring forms up to date.

        Args:
            places: Places of exact candidates, at least one, int64 of shape (b,).
        """
        stamps, now = self._stamps[places], self._flushed + self.picked
        first = int(stamps.min())
        if first < now:
            rows = slice(first - self._flushed, self.picked)
            steps = self._inner[self.column_of[self._places[rows]][:, None], places]
            if rows.start > 0:
                earlier = self._steps[places, self._flushed : first]
                steps.addmm_(self._factor[rows, : rows.start], earlier.T, alpha=-1.0)
            steps = torch.linalg.solve_triangular(self._factor[rows, rows], steps, upper=False).T
            self._steps[places, first:now] = steps
            taken = steps.square().masked_fill_(torch.arange(first, now) < stamps[:, None], 0.0).sum(dim=1)
            self.forms[places] = (self.forms[places] - taken).clamp_(min=0.0)
            self._fallen = REMEMBERED * self._fallen + float(taken.sum())
            self._aged = REMEMBERED * self._aged + float((now - stamps).sum())
        self._stamps[places], self.current[places] = now, True
        self.refreshed += len(places)

    def pick(self, place: int) -> None:
        """Add a candidate to the set. It stays in the window, as an identical sample would.

        Args:
            place: Its place; it must have a column and be current.
        """
        step, form, alpha = self.picked, float(self.forms[place]), self._fisher.alpha
        self._factor[step, :step] = self._steps[place, self._flushed : self._flushed + step]
        self._factor[step, step] = math.sqrt((1.0 + alpha * form) / alpha)
        self._places[step], self._picked_forms[step] = place, form
        if self._tracks_conflicts:
            self._products = self._products + self._plain[self.column_of[place]]
        self._total += self._gradients[place]
        self._length = float(self._total.norm())
        self._path += math.sqrt(float(self._norms[place]))
        self.current.fill_(False)
        self.picked += 1

    def flush(self) -> None:
        """Carry the picks into P; every exact form must be current. One that is not in the space of picks is over."""
        if self.picked == 0:
            return
        places, now = self._places[: self.picked], self._flushed + self.picked
        # v_j / scale_j = P g_j - sum over the earlier picks l of v_l (v_l . g_j), where P is I in the space of picks
        device = self._gradients.device
        if self.in_picks:
            projected = self._gradients[places.to(device)]
            if self._flushed > 0:
                earlier = self._steps[places, : self._flushed].to(device)
                projected.addmm_(earlier, self._fisher.directions, alpha=-1.0)
        else:
            projected = self._projected[self.column_of[places].to(device)]
        factor = self._factor[: self.picked, : self.picked].to(device)
        directions = torch.linalg.solve_triangular(factor, projected, upper=False)
        self._fisher.extend(directions, self._norms[places], self._picked_forms[: self.picked])
        exact, ready = torch.nonzero(self.exact).flatten(), torch.nonzero(self.column_of >= 0).flatten()
        steps = self._steps[:, self._flushed : now]
        self._inner[self.column_of[ready][:, None], exact] -= steps[ready] @ steps[exact].T
        self._flushed, self.picked = now, 0
        self.current = self.exact.clone()
        if now + self._capacity > self._steps.shape[1]:
            wider = self._steps.new_empty(len(self._steps), 3 * (now + self._capacity) // 2)
            wider[:, :now] = self._steps[:, :now]
            self._steps = wider

    def replace(
        self, places: torch.Tensor, gradients: torch.Tensor, squared_norms: torch.Tensor, forms: torch.Tensor
    ) -> None:
        """Let other candidates take places of a window in the space of picks that has just been flushed.

        Args:
            places: The places, int64 of shape (b,).
            gradients: The others' gradients, float64 of shape (b, d).
            squared_norms: |g|^2, float64 of shape (b,).
            forms: Upper bounds on g^T P g now, float64 of shape (b,).
        """
        device = self._gradients.device
        self._gradients[places.to(device)] = gradients
        self._norms[places], self.forms[places] = squared_norms, forms
        self._stamps[places], self.exact[places], self.current[places] = self._flushed, self._flushed == 0, True
        self.column_of[places] = -1
        if self._tracks_conflicts:
            self._products[places] = (gradients @ self._total).cpu()
        ready = torch.nonzero(self.column_of >= 0).flatten()
        self._inner, self._plain = self._inner[self.column_of[ready]], self._plain[self.column_of[ready]]
        self._plain[:, places] = (self._gradients[ready.to(device)] @ gradients.T).cpu()
        self._inner[:, places] = self._plain[:, places]
        self.column_of[ready] = torch.arange(len(ready))


def absorb(gradients: torch.Tensor, fisher: FisherLogDet, total: torch.Tensor) -> None:
    """Add gradients that are no candidates to the set.

    Args:
        gradients: float64 of shape (m, d).
        fisher: P of the set.
        total: Sum of the set's gradients, float64 of shape (d,); brought up to date in place.
    """
    for block in torch.split(gradients, ABSORBED_TOGETHER):
        window = ActiveBlock(block, block.square().sum(dim=1).cpu(), None, fisher, total, len(block), conflicts=False)
        window.add_columns(torch.arange(len(block)))
        for place in range(len(block)):
            window.refresh(torch.tensor([place]))
            window.pick(place)
        window.flush()
