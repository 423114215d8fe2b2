"""How two candidates compare: score, tolerance of a tie, and when a choice can no longer be overtaken.

Score of x is Delta_x(S) - lambda conflict(x|S), divided by the sample's cost when the budget is in tokens and the rule
is gain per token. Scores closer than the precision of the rows can tell apart are a tie: every row within the tolerance
of the highest score ties with it, and the lowest of them is picked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch

TIE = 1e-12
"""Scores closer than this share of their terms count as equal: float64 rounding of the gains stays below it."""
NOTHING = -math.inf
"""Gain of a row that may not be chosen."""


class Proposal(NamedTuple):
    """The candidate that comes next.

    Attributes:
        row: Its row in the pool.
        gain: Delta_x(S), nats.
        conflict: conflict(x|S), in [0, 1].
        score: What it was compared by.
        place: Where the engine that proposed it keeps it.
        task: The target that the pick serves; -1 without targets.
        relevance: g . m / |m| with the mean m of that target's rows; 0 without targets.
        best: The highest score, with which this one ties.
        margin: By how much its score exceeds any other's, at least; negative when a tie gave it to the lower row.
        resolution: Below which margin changes of the rows within their precision may change the pick.
    """

    row: int
    gain: float
    conflict: float
    score: float
    place: int
    task: int = -1
    relevance: float = 0.0
    best: float = math.inf
    margin: float = math.inf
    resolution: float = 0.0

    def beside(self, bound: float) -> Proposal:
        """The same proposal, with a margin that holds for further rows.

        Args:
            bound: No score of theirs is higher.
        """
        return self._replace(margin=min(self.margin, self.score - bound))


class Tolerance(NamedTuple):
    """How close to the highest score another is to count as equal.

    Attributes:
        tie: For what is known of the rows.
        rounding: For the arithmetic alone.
    """

    tie: float
    rounding: float


class Bounded(Protocol):
    """Turns upper bounds on gains into what rows are compared by."""

    def bounds(self, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Numbers that never rise as gains fall, float64 of shape (m,)."""


class ComparisonRule(Bounded, Protocol):
    """What candidates are compared by: ``Rule``, or ``TargetRule`` with targets.

    Attributes:
        penalty: Weight of the conflict with the set, lambda >= 0.
        costs: Cost of every row, when scores count per cost.
        has_own_conflicts: Whether the conflict of a proposal is the rule's own.
        needs_products: Whether products of the picks with other samples are wanted.
        bounds_hold: Whether a bound taken earlier still holds: nothing in it rises, and it is for the same task.
    """

    @property
    def penalty(self) -> float: ...  # ruff: ignore[undocumented-public-method]
    @property
    def costs(self) -> torch.Tensor | None: ...  # ruff: ignore[undocumented-public-method]
    @property
    def has_own_conflicts(self) -> bool: ...  # ruff: ignore[undocumented-public-method]
    @property
    def needs_products(self) -> bool: ...  # ruff: ignore[undocumented-public-method]
    @property
    def bounds_hold(self) -> bool: ...  # ruff: ignore[undocumented-public-method]

    def fresh(self) -> ComparisonRule:
        """The same rule before the first pick."""

    def scores(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Scores, or upper bounds on them from upper bounds on the gains."""

    def best(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> tuple[Proposal, Tolerance]:
        """The highest score, ties to the lower row, and how far from it another score still ties."""

    def for_every_task(self, gains: torch.Tensor, rows: torch.Tensor, size: int) -> Bounded:
        """What says which rows are likely to be picked soon."""

    def settle(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Compute the terms of rows exactly."""

    def unsettled(self, rows: torch.Tensor) -> torch.Tensor:
        """Those of the rows whose terms are not exact."""

    def prepare(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Make rows ready that may be picked soon."""

    def offer(self, row: int, column: torch.Tensor, error: float) -> None:
        """Products of a row that may be picked with the whole pool."""

    def keep(self, rows: torch.Tensor) -> None:
        """Forget what was prepared for other rows."""

    def accept(
        self,
        row: int,
        gradient: torch.Tensor,
        near: torch.Tensor | None = None,
        products: torch.Tensor | None = None,
        copy: int = -1,
    ) -> None:
        """Count a pick."""


@dataclass(frozen=True)
class Rule:
    """What candidates are compared by.

    Attributes:
        penalty: Weight of the conflict, lambda >= 0.
        costs: Cost of every row, float64 of shape (n,) on the CPU, when gains count per cost; None when they do not.
        weight: Weight of the gain.
        tie: Share of its terms by which a score must differ from another to be told apart.
        charges: What every row pays, float64 of shape (n,) on the CPU; None for nothing.
    """

    penalty: float
    costs: torch.Tensor | None = None
    weight: float = 1.0
    tie: float = TIE
    charges: torch.Tensor | None = None

    has_own_conflicts: ClassVar[bool] = False
    needs_products: ClassVar[bool] = False
    bounds_hold: ClassVar[bool] = True

    def fresh(self) -> Rule:
        """The same rule before the first pick: it has no memory."""
        return self

    def for_every_task(self, gains: torch.Tensor, rows: torch.Tensor, size: int) -> Rule:
        """There is one task only.

        Args:
            gains: Not needed.
            rows: Not needed.
            size: Not needed.
        """
        del gains, rows, size
        return self

    def settle(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Every term is exact.

        Args:
            rows: Not needed.
            gradients: Not needed.
        """

    def unsettled(self, rows: torch.Tensor) -> torch.Tensor:
        """None of the rows.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return rows[:0]

    def prepare(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Nothing is prepared.

        Args:
            rows: Not needed.
            gradients: Not needed.
        """

    def offer(self, row: int, column: torch.Tensor, error: float) -> None:
        """Products of a row that may be picked with the whole pool.

        Args:
            row: Not needed.
            column: Not needed.
            error: Not needed.
        """

    def keep(self, rows: torch.Tensor) -> None:
        """Nothing is kept.

        Args:
            rows: Not needed.
        """

    def accept(
        self,
        row: int,
        gradient: torch.Tensor,
        near: torch.Tensor | None = None,
        products: torch.Tensor | None = None,
        copy: int = -1,
    ) -> None:
        """A pick changes nothing.

        Args:
            row: Not needed.
            gradient: Not needed.
            near: Not needed.
            products: Not needed.
            copy: Not needed.
        """

    def bounds(self, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Upper bounds on the scores from upper bounds on the gains, because a conflict is never negative.

        Args:
            gains: Upper bounds on the gains, nats, shape (m,).
            rows: Their rows, shape (m,).
        """
        return self.per_cost(self.charged(self.weight * gains, rows), rows)

    def scores(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Scores, or upper bounds on them from upper bounds on the gains.

        Args:
            gains: Gains, nats, shape (m,).
            conflicts: Conflicts, shape (m,).
            rows: Rows, shape (m,).
        """
        return self.per_cost(self.charged(self.weight * gains - self.penalty * conflicts, rows), rows)

    def charged(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Scores less what the rows pay.

        Args:
            scores: Scores, shape (m,).
            rows: Their rows, shape (m,).
        """
        return scores if self.charges is None else scores - self.charges[rows]

    def per_cost(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Scores, or scores per cost.

        Args:
            scores: Scores, shape (m,).
            rows: Their rows, shape (m,).
        """
        return scores if self.costs is None else scores / self.costs[rows]

    def best(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> tuple[Proposal, Tolerance]:
        """The highest score, ties to the lower row, and how far from it another score still ties.

        Args:
            gains: Gains, nats, -inf for rows that may not be chosen, shape (m,), on the CPU.
            conflicts: Conflicts, shape (m,).
            rows: Rows, shape (m,).
        """
        scores = self.scores(gains, conflicts, rows)
        top = int(scores.argmax())
        size = self.weight * gains[top] + self.penalty * conflicts[top]
        size = self.per_cost(size if self.charges is None else size + self.charges[rows[top]], rows[top])
        return lowest_of_ties(scores, gains, conflicts, rows, self.tie, float(size))


RESOLUTION = 2.0
"""A tolerance for the tie and half of one for each of two scores: another batch size moves a score by a quarter."""


def lowest_of_ties(
    scores: torch.Tensor, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor, tie: float, size: float
) -> tuple[Proposal, Tolerance]:
    """The lowest row among those whose scores tie with the highest.

    Args:
        scores: float64 of shape (m,).
        gains: Gains, nats, shape (m,).
        conflicts: Conflicts, shape (m,).
        rows: Rows, shape (m,).
        tie: Share of its terms by which a score must differ to be told apart.
        size: Size of the terms of the highest score.
    """
    tolerance, best = Tolerance(tie * size, min(tie, TIE) * size), float(scores.max())
    tied = torch.nonzero(scores >= best - tolerance.tie).flatten()
    place = int(tied[rows[tied].argmin()])
    score, second = float(scores[place]), NOTHING
    if len(scores) > 1:
        highest = scores.topk(2)
        second = float(highest.values[1] if int(highest.indices[0]) == place else highest.values[0])
    proposal = Proposal(int(rows[place]), float(gains[place]), float(conflicts[place]), score, place)
    return proposal._replace(best=best, margin=score - second, resolution=RESOLUTION * tolerance.tie), tolerance


def is_settled(proposal: Proposal, tolerance: Tolerance, bounds: torch.Tensor, rows: torch.Tensor) -> bool:
    """Whether none of the other rows can be a better choice, whatever their true scores are.

    A row that may be above the highest score must be looked at, because those that tie are counted from there; one that
    can only tie matters if it is a lower row.

    Args:
        proposal: Best of the rows whose scores are known.
        tolerance: How far below the highest score another still ties.
        bounds: Upper bounds on the scores of the other rows, shape (m,).
        rows: The other rows, shape (m,).
    """
    if len(bounds) == 0 or float(bounds.max()) < proposal.best - tolerance.tie:
        return True
    if float(bounds.max()) > proposal.best + tolerance.rounding:
        return False
    return not bool((rows[bounds >= proposal.best - tolerance.tie] < proposal.row).any())


def descending(bounds: torch.Tensor, count: int, ignored: int = 12) -> torch.Tensor:
    """Places of the ``count`` largest bounds from above, the lower place first among equal ones.

    Bounds that differ only by rounding are taken as equal, so that a pool of equals is worked off from its lower end.

    Args:
        bounds: float64 of shape (m,).
        count: How many.
        ignored: How many of the 52 last bits make no difference.

    Returns:
        int64 of shape (min(count, m),).
    """
    # Floats sort like their bits, negative ones with all but the sign turned over; without the last of 52 bits
    # rounding makes no difference.
    bits = bounds.view(torch.int64)
    coarse = (bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)) >> ignored
    if count >= len(bounds):
        return coarse.argsort(descending=True, stable=True)
    threshold = coarse.topk(count, sorted=False).values.min()
    above = torch.nonzero(coarse > threshold).flatten()
    level = torch.nonzero(coarse == threshold).flatten()
    chosen = torch.cat([above, level[: count - len(above)]])
    return chosen[coarse[chosen].argsort(descending=True, stable=True)]
