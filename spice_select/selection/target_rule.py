"""Selection for targets: what a candidate is worth for the task that the next pick serves.

score = w f_a(x) + eta Delta_x(S) - lambda max(0, -cos(g_x, m_a)), where m_a is the mean of task a's target rows and
f_a is

    relevance   g . m_a / |m_a|
    matching    g . ((t_a + 1) m_a - sum of the picks for a) / |m_a|, with t_a picks for a so far.

The first is fixed. The second rises and falls with the picks; its products are kept by ``PickProducts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spice_select.config import SelectionConfig
from spice_select.errors import PoolError
from spice_select.selection.conflict import conflict
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.pick_products import PickProducts
from spice_select.selection.scoring import NOTHING, Proposal, Tolerance, lowest_of_ties

CANCELS = 1e-12
"""A mean shorter than this share of the mean length is rounding: the target rows cancel."""
SAME_SHARE = 1e-9
"""Tasks whose lack of picks differs by less than this tie; the first of them is served."""


@dataclass(frozen=True)
class Targets:
    """The tasks of a selection.

    Attributes:
        means: Mean gradient of each task's target rows, float64 of shape (tasks, d).
        shares: Share of the picks that each task is due, > 0, adding up to 1.
    """

    means: torch.Tensor
    shares: tuple[float, ...]

    def next_task(self, counts: Sequence[int]) -> int:
        """The task furthest below its share, ties to the first.

        Args:
            counts: Picks made for each task.
        """
        return next_task(self.shares, counts)


def next_task(shares: Sequence[float], counts: Sequence[int]) -> int:
    """The task furthest below its share, ties to the first.

    Args:
        shares: Share of the picks that each task is due, adding up to 1.
        counts: Picks made for each task.
    """
    due = sum(counts) + 1
    lacking = [share * due - count for share, count in zip(shares, counts, strict=True)]
    most = max(lacking) - SAME_SHARE
    return next(task for task, lack in enumerate(lacking) if lack >= most)


def read_shares(count: int, weights: Sequence[float] | None) -> tuple[float, ...]:
    """Share of the picks that each task is due, adding up to 1.

    Args:
        count: Number of tasks.
        weights: Weight of each; None for equal ones.

    Raises:
        PoolError: There is no task, or a weight is not a number above 0.
    """
    if not count:
        raise PoolError("targets must hold at least one target", pointer="#/targets")
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count:
        raise PoolError(f"{len(given)} weights for {count} targets", pointer="#/target_weights")
    for number, weight in enumerate(given):
        if not 0.0 < weight < float("inf"):
            raise PoolError(f"the weight of a target must be above 0, not {weight}", pointer=f"#/targets/{number}")
    return tuple(weight / sum(given) for weight in given)


def read_targets(rows: Sequence[torch.Tensor], weights: Sequence[float] | None) -> Targets:
    """Means and shares of the tasks.

    Args:
        rows: Target rows of each task, float64 of shape (m, d).
        weights: Weight of each task; None for equal ones.

    Raises:
        PoolError: There is no task, a weight is not a number above 0, or the rows of a task cancel.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by read_shares() and means_of()
    shares = read_shares(len(rows), weights)
    return Targets(means_of(rows, "target", "#/targets"), shares)


def means_of(sets: Sequence[torch.Tensor], what: str, pointer: str) -> torch.Tensor:
    """The mean of each set of rows, float64 of shape (sets, d).

    Args:
        sets: Rows of each set, float64 of shape (m, d).
        what: What a set is called in an error.
        pointer: Where the settings have the sets.

    Raises:
        PoolError: The rows of a set cancel.
    """
    means = torch.stack([rows.mean(dim=0) for rows in sets])
    for number, (rows, mean) in enumerate(zip(sets, means, strict=True)):
        if float(mean.norm()) <= CANCELS * float(rows.norm(dim=1).mean()):
            raise PoolError(
                f"the gradients of {what} {number} are zero or cancel: their mean says nothing about the pool",
                pointer=f"{pointer}/{number}",
            )
    return means


class TargetRule:
    """Compares candidates by what they are worth for a target; stands where ``Rule`` stands without one.

    Args:
        candidates: The pool.
        targets: The tasks.
        config: Settings of the run: the rule and the three weights are used.
        costs: Cost of every row, float64 of shape (n,) on the CPU, when scores count per cost.
        charges: What every row pays, float64 of shape (n,) on the CPU; None for nothing.

    Attributes:
        penalty: Zero: conflicts are with fixed means, and the engine need not follow those with the set.
        needs_products: Whether products of the picks with other samples are wanted.
        task: The task that the next pick serves.
    """

    penalty = 0.0
    has_own_conflicts = True
    bounds_hold = False

    def __init__(
        self,
        candidates: GradientMatrix,
        targets: Targets,
        config: SelectionConfig,
        costs: torch.Tensor | None,
        charges: torch.Tensor | None = None,
    ) -> None:
        self._candidates, self._targets, self._config, self.costs = candidates, targets, config, costs
        self.needs_products = config.target_rule == "matching"
        self._eta, self._weight = config.information_weight, config.relevance_weight
        self._lambda = config.conflict_penalty if config.method == "spice" else 0.0
        self._charges = torch.zeros(candidates.size, dtype=torch.float64) if charges is None else charges
        self._lengths = candidates.squared_norms.sqrt().cpu()
        norms = targets.means.norm(dim=1)
        self._norms = norms.tolist()
        products = torch.cat([block @ targets.means.T for _, block in candidates.blocks()]).T.cpu()
        self._relevance = products / norms.cpu()[:, None]
        self._conflicts = torch.stack(
            [
                conflict(product, candidates.squared_norms.cpu(), norm)
                for product, norm in zip(products, self._norms, strict=True)
            ]
        )
        self._start()

    def _start(self) -> None:
        tasks = len(self._relevance)
        self._counts = [0] * tasks
        self.task = self._targets.next_task(self._counts)
        if self.needs_products:
            self._products = PickProducts(self._candidates, tasks)

    def fresh(self) -> TargetRule:
        """The same rule before the first pick."""
        rule = object.__new__(TargetRule)
        rule.__dict__.update(self.__dict__)
        rule._start()
        return rule

    def relevance(self, row: int) -> float:
        """G . m_a / |m_a| of a row for the present task.

        Args:
            row: The row.
        """
        return float(self._relevance[self.task, row])

    def bounds(self, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Upper bounds on the scores for the present task from upper bounds on the gains.

        Args:
            gains: Upper bounds on the gains, nats, shape (m,).
            rows: Their rows, shape (m,).
        """
        return self._per_cost(self._upper(self.task, gains, rows), rows)

    def scores(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Scores for the present task, or upper bounds on them from upper bounds on the gains.

        Args:
            gains: Gains, nats, shape (m,).
            conflicts: Conflicts with the set; of no interest here.
            rows: Rows, shape (m,).
        """
        del conflicts
        return self.bounds(gains, rows)

    def best(self, gains: torch.Tensor, conflicts: torch.Tensor, rows: torch.Tensor) -> tuple[Proposal, Tolerance]:
        """The highest score for the present task, ties to the lower row, and how far from it another score still ties.

        Args:
            gains: Gains, nats, -inf for rows that may not be chosen, shape (m,), on the CPU.
            conflicts: Conflicts with the set; of no interest here.
            rows: Rows, shape (m,), whose terms are exact.
        """
        del conflicts
        closed = gains == NOTHING
        gains = gains.masked_fill(closed, 0.0)
        against = self._conflicts[self.task, rows]
        scores = self._per_cost(self._eta * gains + self._fixed(self.task, rows), rows).masked_fill_(closed, NOTHING)
        top = scores.argmax()[None]
        size = self._eta * gains[top] + self._lambda * against[top] + self._weight * self._magnitude(rows[top])
        size = self._per_cost(size + self._charges[rows[top]], rows[top])
        found, tolerance = lowest_of_ties(scores, gains, against, rows, self._candidates.tie, float(size))
        return found._replace(task=self.task, relevance=self.relevance(found.row)), tolerance

    def for_every_task(self, gains: torch.Tensor, rows: torch.Tensor, size: int) -> EveryTask:
        """What says which rows are likely to be picked soon, for whichever task.

        Args:
            gains: Upper bounds on the gains, nats, shape (m,).
            rows: Rows that may be picked, shape (m,).
            size: How many of them are wanted.
        """
        each = max(1, min(len(rows), size // len(self._counts)))
        levels = []
        for task in range(len(self._counts)):
            best = self._per_cost(self._upper(task, gains, rows), rows).topk(each).values
            levels.append((float(best[0]), max(float(best[0] - best[-1]), 1e-12 * abs(float(best[0])), 1e-300)))
        return EveryTask(self, levels)

    def upper_for(self, task: int, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Upper bounds on the scores for any task.

        Args:
            task: The task.
            gains: Upper bounds on the gains, nats, shape (m,).
            rows: Their rows, shape (m,).
        """
        return self._per_cost(self._upper(task, gains, rows), rows)

    def settle(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Compute the terms of rows exactly.

        Args:
            rows: Row numbers, int64 of shape (m,).
            gradients: Their gradients, float64 of shape (m, d).
        """
        if self.needs_products and len(rows) > 0:
            self._products.settle(rows, gradients)

    def unsettled(self, rows: torch.Tensor) -> torch.Tensor:
        """Those of the rows whose term for the present task is not exact.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return rows[self._products.errors[self.task, rows] > 0.0] if self.needs_products else rows[:0]

    def prepare(self, rows: torch.Tensor, gradients: torch.Tensor) -> None:
        """Take the products of rows that may be picked soon with the whole pool, in float32.

        Args:
            rows: Row numbers, int64 of shape (c,).
            gradients: Their gradients, float64 of shape (c, d).
        """
        if self.needs_products:
            self._products.prepare(rows, gradients)

    def offer(self, row: int, column: torch.Tensor, error: float) -> None:
        """Products of a row that may be picked with the whole pool.

        Args:
            row: The row.
            column: The products, shape (n,) on the CPU.
            error: Bound on their error, relative to the product of the lengths.
        """
        if self.needs_products:
            self._products.offer(row, column, error)

    def keep(self, rows: torch.Tensor) -> None:
        """Forget what was prepared for other rows.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        if self.needs_products:
            self._products.keep(rows)

    def accept(
        self,
        row: int,
        gradient: torch.Tensor,
        near: torch.Tensor | None = None,
        products: torch.Tensor | None = None,
        copy: int = -1,
    ) -> None:
        """Count a pick for the present task and go on to the next.

        Args:
            row: The pick.
            gradient: Its gradient, float64 of shape (d,).
            near: Rows whose products with it are known exactly.
            products: Those products, float64 of shape (m,) on the CPU.
            copy: The next identical row, or -1.
        """
        task = self.task
        if self.needs_products:
            self._products.add(task, row, gradient, near, products, copy)
        self._counts[task] += 1
        self.task = self._targets.next_task(self._counts)

    def _fixed(self, task: int, rows: torch.Tensor) -> torch.Tensor:
        """W f_a - lambda conflict - charge."""
        values: torch.Tensor = self._relevance[task, rows]
        if self.needs_products:
            values = (self._counts[task] + 1) * values - self._products.sums[task, rows] / self._norms[task]
        return self._weight * values - self._lambda * self._conflicts[task, rows] - self._charges[rows]

    def _upper(self, task: int, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        uppers: torch.Tensor = self._eta * gains + self._fixed(task, rows)
        if not self.needs_products:
            return uppers
        errors: torch.Tensor = self._products.errors[task, rows] * (self._weight / self._norms[task])
        return uppers + errors

    def _magnitude(self, rows: torch.Tensor) -> torch.Tensor:
        """Size of the terms that f_a is made of, by which its rounding is judged."""
        sizes: torch.Tensor = self._relevance[self.task, rows].abs()
        if self.needs_products:
            picked = self._products.sums[self.task, rows].abs() / self._norms[self.task]
            sizes = (self._counts[self.task] + 1) * sizes + picked
        return sizes + self._lengths[rows]

    def _per_cost(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return scores if self.costs is None else scores / self.costs[rows]


class EveryTask:
    """How near a row is to being picked for the task that it is nearest to.

    Args:
        rule: Where scores come from.
        levels: For each task its best score and how far below the last of the wanted rows is.
    """

    def __init__(self, rule: TargetRule, levels: Sequence[tuple[float, float]]) -> None:
        self._rule, self._levels = rule, levels

    def bounds(self, gains: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """0 for the best row of a task, -1 for the last wanted one; never rises as gains fall.

        Args:
            gains: Upper bounds on the gains, nats, shape (m,).
            rows: Their rows, shape (m,).
        """
        nearest: torch.Tensor | None = None
        for task, (best, spread) in enumerate(self._levels):
            distance = (self._rule.upper_for(task, gains, rows) - best) / spread
            nearest = distance if nearest is None else torch.maximum(nearest, distance)
        assert nearest is not None
        return nearest
