"""Selection for the rows of targets in turn: each picks the row of the pool that it scores highest of those left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spice_select.selection.baselines import check_target_rows, descending_order
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.target_rule import next_task

STRIDE = 512
"""Rows of an order that are looked at together; does not affect results."""


class RoundRobin:
    """The next pick serves the task furthest below its weight, and of its target rows the one whose turn it is.

    Args:
        scores: For each task the score of every row of the pool for each target row, float64 of shape (n, m).
        shares: Share of the picks that each task is due, > 0, adding up to 1.

    Attributes:
        task: The task that the last proposed row serves.
        turn: The row of that task whose turn it was.
    """

    def __init__(self, scores: Sequence[torch.Tensor], shares: Sequence[float]) -> None:
        self._shares = shares
        self._scores = [task.T.contiguous() for task in scores]
        self._orders = [[descending_order(row).numpy().astype(np.int32) for row in task] for task in self._scores]
        self._starts = [[0] * len(task) for task in self._scores]
        self._counts = [0] * len(scores)
        self._taken = np.zeros(len(scores[0]), dtype=bool)
        self._ahead = torch.zeros(0, dtype=torch.int64)
        self.task = self.turn = -1

    def choose(self, allowed: torch.Tensor) -> tuple[int, float] | None:
        """The next allowed row and its score for the target row that picks it, or None when there is no row.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        self.task = next_task(self._shares, self._counts)
        self.turn = self._counts[self.task] % len(self._orders[self.task])
        row = self._best(self.task, self.turn, allowed)
        return None if row is None else (row, float(self._scores[self.task][self.turn, row]))

    def ahead(self, allowed: torch.Tensor) -> torch.Tensor:
        """Rows that the target rows would pick now, the next one first; those of before while it is among them.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.
        """
        chosen = self.choose(allowed)
        assert chosen is not None
        if chosen[0] not in self._ahead:
            turns = [(task, turn) for task, orders in enumerate(self._orders) for turn in range(len(orders))]
            others = {self._best(task, turn, allowed) for task, turn in turns} - {chosen[0], None}
            self._ahead = torch.tensor([chosen[0], *sorted(others)])  # type: ignore[type-var]
        return self._ahead

    def take(self, row: int) -> None:
        """The named row has joined the set.

        Args:
            row: The row that joined.
        """
        self._taken[row] = True
        self._counts[self.task] += 1

    def _best(self, task: int, turn: int, allowed: torch.Tensor) -> int | None:
        """The allowed row that a target row scores highest."""
        order, start, may = self._orders[task][turn], self._starts[task][turn], allowed.numpy()
        while start < len(order) and self._taken[order[start]]:
            start += 1
        self._starts[task][turn] = start
        for begin in range(start, len(order), STRIDE):
            rows = order[begin : begin + STRIDE]
            rows = rows[may[rows]]
            if len(rows) > 0:
                return int(rows[0])
        return None


def cosines(candidates: GradientMatrix, targets: torch.Tensor) -> torch.Tensor:
    """Cosine of every row with each target row, float64 of shape (n, m) on the CPU; 0 with a row of zeros.

    Args:
        candidates: The pool.
        targets: Target rows, float64 of shape (m, d).

    Raises:
        PoolError: The targets have no row, another dimension, or numbers that are not finite.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_target_rows()
    check_target_rows(candidates, targets)
    directions = torch.nn.functional.normalize(targets, dim=1, eps=1e-300)
    lengths = candidates.squared_norms.sqrt()[:, None]
    products = torch.cat([block @ directions.T for _, block in candidates.blocks()])
    return torch.where(lengths > 0, products / lengths, 0.0).cpu()
