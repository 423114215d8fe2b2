"""What is known of every sample's gain under the log-determinant, and who has the largest.

A gain only falls as the set grows, so whatever was known of it stays an upper bound. Two things are kept for each
sample: its quadratic form as it exactly was at some size of the set, and a tighter bound, mostly later, from float32
products. Only samples that may be chosen next are brought up to date exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.logdet import FisherLogDet
from spice_select.selection.scoring import NOTHING, Bounded, descending

TOGETHER = 16 * 2**20
"""Size of the gradients that are refreshed together, bytes; does not affect results."""
FEWEST = 64
"""Samples worth a product of their own; does not affect results."""
WASTE = 0.4
"""Share of the products taken for nothing because some of the samples were more up to date; does not affect results."""
ADVANCE = 256
"""Picks taken into account at once when a bound is refreshed; does not affect results."""
KEPT_TOGETHER = 0.7
"""Share of samples still to be refreshed below which the others are taken out; does not affect results."""


class GainBounds:
    """Upper bounds on the gains of a pool. Bookkeeping lives on the CPU, products on the candidates' device.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
        features_from: Size of the set beyond which P itself is kept.

    Attributes:
        fisher: P of the set; whoever extends it changes what is up to date.
        uppers: Upper bounds on the gains, nats, float64 of shape (n,).
        refreshed: Number of times a gain was brought up to date.
    """

    def __init__(self, candidates: GradientMatrix, alpha: float, features_from: int) -> None:
        self._candidates, self._alpha = candidates, alpha
        self._norms = candidates.squared_norms.cpu()
        self._screens = candidates.in_single_range
        self.fisher = FisherLogDet(
            candidates.dimension, alpha, candidates.device, single=self._screens, features_from=features_from
        )
        self._forms, self._stamps = self._norms.clone(), torch.zeros(candidates.size, dtype=torch.int64)
        self._upper_forms, self._upper_stamps = self._forms.clone(), self._stamps.clone()
        self.uppers = torch.log1p(alpha * (self._norms + self.fisher.rounding(self._norms, self._norms)))
        self.refreshed = 0

    def forms(self, rows: torch.Tensor) -> torch.Tensor:
        """Quadratic forms g^T P g of rows that are up to date, float64 of shape (m,).

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return self._forms[rows]

    def uppers_of_forms(self, rows: torch.Tensor) -> torch.Tensor:
        """Upper bounds on the quadratic forms, float64 of shape (m,).

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return self._upper_forms[rows]

    def is_exact(self, rows: torch.Tensor) -> torch.Tensor:
        """Whether the forms of rows are up to date, bool of shape (m,).

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return self._stamps[rows] == self.fisher.count

    def settle(self, rows: torch.Tensor, forms: torch.Tensor) -> None:
        """Take down what the forms are now.

        Args:
            rows: Row numbers, int64 of shape (m,).
            forms: Quadratic forms g^T P g, float64 of shape (m,) on the CPU.
        """
        now = self.fisher.count
        self._forms[rows], self._stamps[rows] = forms, now
        self._lower(rows, forms, now)

    def largest(self, rows: torch.Tensor, size: int, rule: Bounded, exact: int) -> torch.Tensor:
        """Rows with the largest gains, the largest first: the first up to date exactly, the others as far as bounds go.

        Args:
            rows: Rows to look among, int64 of shape (m,).
            size: How many are wanted.
            rule: What gains are compared by.
            exact: How many of the first are to be exact, and the largest whatever rounding hides.

        Returns:
            int64 of shape (min(size, m),).
        """
        while True:
            best = self._largest_bounds(rows, size, rule)
            stale = ~self.is_exact(best[:exact])
            if not bool(stale.any()):
                return best
            self.make_exact(best[:exact][stale])

    def _largest_bounds(self, rows: torch.Tensor, size: int, rule: Bounded) -> torch.Tensor:
        """Rows with the largest bounds; others are refreshed only until they cannot be among them."""
        bounds = rule.bounds(self.uppers[rows], rows)
        reach = 4 * size
        while True:
            order = descending(bounds, reach)
            done, step, least = 0, size, NOTHING
            while done < len(order):
                part = order[done : done + step]
                stale = part[self._upper_stamps[rows[part]] < self.fisher.count]
                self._refresh(rows[stale], least, rule)
                bounds[stale] = rule.bounds(self.uppers[rows[stale]], rows[stale])
                done, step = done + len(part), 2 * step
                best = order[:done][descending(bounds[order[:done]], size)]
                least = float(bounds[best[-1]]) if len(best) == size else NOTHING
                if done < len(order) and float(bounds[order[done]]) < least:
                    break
            stale = best[self._upper_stamps[rows[best]] < self.fisher.count]
            if len(stale) > 0:  # as large as the least of the best, to rounding
                self._refresh(rows[stale], NOTHING, rule)
                bounds[stale] = rule.bounds(self.uppers[rows[stale]], rows[stale])
            elif done < len(order) or len(order) == len(rows):
                return rows[best]
            else:
                reach *= 4

    def _refresh(self, rows: torch.Tensor, enough: float, rule: Bounded) -> None:
        """Bring the bounds of these rows up to date, or until they are below ``enough``."""
        if not self._screens:
            self.make_exact(rows, enough, rule)
            return
        device, now = self._candidates.device, self.fisher.count
        self.refreshed += len(rows)
        for part in self._of_an_age(rows, self._upper_stamps):
            if self.fisher.can_start_afresh(int(self._upper_stamps[part].min())):
                self._start_afresh(part)
                continue
            gradients = self._candidates.take_single(part)
            while len(part) > 0:
                stamps, norms = self._upper_stamps[part], self._norms[part]
                until = min(int(stamps.min()) + ADVANCE, now)
                known = self._upper_forms[part].to(device), stamps.to(device)
                forms = self.fisher.lowered_at_most(*known, gradients, norms.to(device), until)
                self._lower(part, forms.cpu().clamp_(min=0.0), stamps.clamp(min=until))
                if until == now:
                    break
                part, gradients = self._still_above(part, gradients, enough, rule)

    def make_exact(self, rows: torch.Tensor, enough: float = NOTHING, rule: Bounded | None = None) -> None:
        """Bring the forms of these rows up to date, or until their bounds are below ``enough``."""
        device, now = self._candidates.device, self.fisher.count
        self.refreshed += int((self._upper_stamps[rows] < now).sum())
        for part in self._of_an_age(rows, self._stamps):
            if self.fisher.can_start_afresh(int(self._stamps[part].min())):
                self._start_afresh(part)
                continue
            gradients = self._candidates.take(part)
            while len(part) > 0:
                stamps = self._stamps[part]
                until = min(int(stamps.min()) + ADVANCE, now)
                forms = self.fisher.lowered(self._forms[part].to(device), stamps.to(device), gradients, until)
                self._forms[part], self._stamps[part] = forms.cpu().clamp_(min=0.0), stamps.clamp(min=until)
                self._lower(part, self._forms[part], self._stamps[part])
                if until == now:
                    break
                if rule is not None:
                    part, gradients = self._still_above(part, gradients, enough, rule)

    def _start_afresh(self, rows: torch.Tensor) -> None:
        self.settle(rows, self.fisher.forms(self._candidates.take(rows)).cpu().clamp_(min=0.0))

    def _still_above(
        self, part: torch.Tensor, gradients: torch.Tensor, enough: float, rule: Bounded
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows that have to be followed further, unless nearly all of them have."""
        needed = rule.bounds(self.uppers[part], part) >= enough
        if int(needed.sum()) < KEPT_TOGETHER * len(part):
            return part[needed], gradients[needed.to(gradients.device)]
        return part, gradients

    def _of_an_age(self, rows: torch.Tensor, stamps: torch.Tensor) -> Iterator[torch.Tensor]:
        """The rows in groups that were up to date at much the same time, oldest first, none too large for a block."""
        now, most = self.fisher.count, max(FEWEST, TOGETHER // (8 * self._candidates.dimension))
        ordered = rows[stamps[rows].argsort(stable=True)]
        times, counts = torch.unique_consecutive(stamps[ordered], return_counts=True)
        start = end = wasted = useful = oldest = 0
        for time, count in zip(times.tolist(), counts.tolist(), strict=True):
            oldest = time if start == end else oldest
            wasted, useful = wasted + count * (time - oldest), useful + count * (now - time)
            if wasted > WASTE * useful and end - start >= FEWEST:
                yield from torch.split(ordered[start:end], most)
                start, oldest, wasted, useful = end, time, 0, count * (now - time)
            end += count
        if end > start:
            yield from torch.split(ordered[start:end], most)

    def _lower(self, rows: torch.Tensor, forms: torch.Tensor, stamps: torch.Tensor | int) -> None:
        """Take down upper bounds on forms as they were when the set had the size ``stamps``, where they are later."""
        later = self._upper_stamps[rows] <= stamps
        if not bool(later.all()):
            rows, forms, stamps = (
                rows[later],
                forms[later],
                stamps[later] if isinstance(stamps, torch.Tensor) else stamps,
            )
        self._upper_forms[rows], self._upper_stamps[rows] = forms, stamps
        tops = torch.log1p(self._alpha * (forms + self.fisher.rounding(self._norms[rows], forms)))
        self.uppers[rows] = torch.minimum(self.uppers[rows], tops)
