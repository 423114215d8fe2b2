"""What a budget still allows: which rows may be chosen next, and when it is used up."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spice_select.config import Budget
from spice_select.errors import BudgetError, ConfigError, PoolError


def read_costs(costs: Sequence[int] | torch.Tensor | None, size: int) -> torch.Tensor | None:
    """Tokens of every sample as float64 of shape (n,) on the CPU.

    Args:
        costs: Whole numbers >= 1, one for each sample, or None.
        size: Number of samples, n.

    Raises:
        PoolError: Not one number >= 1 for each sample.
    """
    if costs is None:
        return None
    numbers = torch.as_tensor(costs, dtype=torch.float64, device="cpu")
    if numbers.shape != (size,) or not bool((numbers >= 1).all()):
        raise PoolError(f"costs must hold one number >= 1 for each of the {size} samples")
    return numbers


class Allowance:
    """Keeps the account of one selection.

    Args:
        budget: How much to choose.
        size: Number of samples in the pool, n.
        costs: Tokens of every sample, float64 of shape (n,); needed for a token budget.

    Attributes:
        allowed: Rows that may be chosen now, bool of shape (n,) on the CPU.
        limit: Most samples that can be chosen.

    Raises:
        BudgetError: The budget exceeds the pool, or is below its shortest sample.
        ConfigError: A token budget without the tokens of the samples.
    """

    def __init__(self, budget: Budget, size: int, costs: torch.Tensor | None) -> None:
        self.allowed = torch.ones(size, dtype=torch.bool)
        self._costs = costs if budget.tokens is not None else None
        self._left = float(budget.tokens or 0)
        self._taken = 0
        count = budget.resolve_count(size)
        if count is not None:
            if count > size:
                raise BudgetError(f"count is {count}, the pool has {size} samples", pointer="#/budget/count")
            self.limit = count
            return
        if costs is None:
            raise ConfigError("a token budget needs the tokens of every sample", pointer="#/budget/tokens")
        if float(costs.min()) > self._left:
            raise BudgetError(
                f"tokens is {budget.tokens}, the shortest sample has {int(costs.min())}", pointer="#/budget/tokens"
            )
        self.limit = int((costs.sort().values.cumsum(0) <= self._left).sum())
        self.allowed &= costs <= self._left

    @property
    def is_used_up(self) -> bool:
        """True when nothing more may be chosen."""
        return self._taken >= self.limit or not bool(self.allowed.any())

    def take(self, row: int) -> None:
        """Book a chosen row; rows that no longer fit are closed.

        Args:
            row: The row.
        """
        self.allowed[row] = False
        self._taken += 1
        if self._costs is not None:
            self._left -= float(self._costs[row])
            self.allowed &= self._costs <= self._left
