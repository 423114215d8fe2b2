"""What a budget still allows: which rows may be chosen next, and when it is used up.

Every limit is an account: samples, tokens, or both. Floors of groups that are not met yet hold a reserve in each
account, the cheapest way to meet them, and a row is closed for good once it no longer fits beside the reserve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spice_select.config import Quotas, SelectionConfig
from spice_select.errors import BudgetError, ConfigError, PoolError, escaped


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


def read_rows(rows: Sequence[int], size: int, name: str) -> torch.Tensor:
    """Row numbers as a mask, bool of shape (n,).

    Args:
        rows: Row numbers.
        size: Number of samples, n.
        name: What they are, for the message.

    Raises:
        PoolError: A row that the pool does not have.
    """
    mask = torch.zeros(size, dtype=torch.bool)
    outside = [row for row in rows if not 0 <= row < size]
    if outside:
        raise PoolError(
            f"{name} has rows that the pool of {size} samples does not: {outside[:20]}", pointer=f"#/{name}"
        )
    mask[torch.tensor(list(rows), dtype=torch.int64)] = True
    return mask


@dataclass
class Account:
    """One limited quantity.

    Attributes:
        pointer: Where the limit is in the settings.
        costs: What each row costs, float64 of shape (n,).
        left: What is left of the limit.
    """

    pointer: str
    costs: torch.Tensor
    left: float

    def __post_init__(self) -> None:
        self.largest = float(self.costs.max())

    def reserve(self, codes: torch.Tensor, unmet: dict[int, int], rows: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Cheapest way to meet the floors, and how much of it each row would set free by being chosen.

        Args:
            codes: Group of every row, int64 of shape (n,).
            unmet: Samples that each group still needs.
            rows: Rows that may be used, bool of shape (n,).

        Returns:
            The reserve, and float64 of shape (n,).
        """
        total, released = 0.0, torch.zeros_like(self.costs)
        for code, needed in unmet.items():
            members = torch.nonzero((codes == code) & rows).flatten()
            cheapest = self.costs[members].sort(stable=True).values[:needed]
            total += float(cheapest.sum())
            # Choosing one of the cheapest frees its own cost; choosing another frees the dearest of them.
            released[members] = torch.minimum(self.costs[members], cheapest[-1])
        return total, released


class Allowance:
    """Keeps the accounts of one selection.

    Args:
        config: Settings of the run: budget, quotas and largest count are used.
        size: Number of samples in the pool, n.
        costs: Tokens of every sample, float64 of shape (n,); needed for a token budget.
        groups: Group of every sample; needed for quotas.
        must_include: Rows that are chosen before any other.
        exclude: Rows that are never chosen.

    Attributes:
        allowed: Rows that may be chosen now, bool of shape (n,) on the CPU.
        limit: Most samples that can be chosen.

    Raises:
        BudgetError: The budget exceeds the pool, is below its shortest sample, or cannot meet the quotas.
        ConfigError: A token budget without tokens, quotas without groups, or a row both included and excluded.
        PoolError: Rows or groups that do not fit the pool.
    """

    def __init__(
        self,
        config: SelectionConfig,
        size: int,
        costs: torch.Tensor | None,
        *,
        groups: Sequence[str] | None = None,
        must_include: Sequence[int] = (),
        exclude: Sequence[int] = (),
    ) -> None:
        self._open = ~read_rows(exclude, size, "exclude")
        self._forced = read_rows(must_include, size, "must_include")
        both = torch.nonzero(self._forced & ~self._open).flatten().tolist()
        if both:
            raise ConfigError(f"rows {both[:20]} are both to be included and excluded", pointer="#/exclude")
        self._accounts = self._open_accounts(config, costs)
        self.limit = min(
            int((account.costs[self._open].sort().values.cumsum(0) <= account.left).sum()) for account in self._accounts
        )
        self._taken = 0
        self._codes: torch.Tensor | None = None
        self._unmet: dict[int, int] = {}
        self._room: dict[int, int] = {}
        if config.quotas is not None:
            self._read_quotas(config.quotas, groups)
        self._require_forced_fit()
        self.allowed = self._open
        self._close()

    @property
    def is_forced(self) -> bool:
        """True while rows that must be included are left."""
        return bool(self._forced.any())

    @property
    def is_owed(self) -> bool:
        """True while rows that must be included, or samples of a group below its floor, are left."""
        return self.is_forced or any(needed > 0 for needed in self._unmet.values())

    @property
    def is_used_up(self) -> bool:
        """True when nothing more may be chosen."""
        return self._taken >= self.limit or not bool(self.allowed.any())

    def take(self, row: int) -> None:
        """Book a chosen row; rows that no longer fit are closed.

        Args:
            row: The row.
        """
        self._taken += 1
        tight = self._codes is not None or bool(self._forced[row])
        self._open[row] = self._forced[row] = self.allowed[row] = False
        for account in self._accounts:
            account.left -= float(account.costs[row])
            tight = tight or account.left < account.largest
        if self._codes is not None:
            code = int(self._codes[row])
            if self._unmet.get(code, 0) > 0:
                self._unmet[code] -= 1
            if code in self._room:
                self._room[code] -= 1
        if tight:
            self._close()

    def _open_accounts(self, config: SelectionConfig, costs: torch.Tensor | None) -> list[Account]:
        budget, available = config.budget, int(self._open.sum())
        ones = torch.ones(len(self._open), dtype=torch.float64)
        accounts = [] if config.max_count is None else [Account("#/max_count", ones, float(config.max_count))]
        count = budget.resolve_count(len(self._open))
        if count is not None:
            if count > available:
                excluded = " that are not excluded" if available < len(self._open) else ""
                raise BudgetError(
                    f"count is {count}, the pool has {available} samples{excluded}", pointer="#/budget/count"
                )
            return [Account("#/budget/count", ones, float(count)), *accounts]
        assert budget.tokens is not None
        if costs is None:
            raise ConfigError("a token budget needs the tokens of every sample", pointer="#/budget/tokens")
        shortest = float(costs[self._open].min()) if available > 0 else float("inf")
        if shortest > budget.tokens:
            raise BudgetError(
                f"tokens is {budget.tokens}, the shortest sample has {shortest:.0f}", pointer="#/budget/tokens"
            )
        return [Account("#/budget/tokens", costs, float(budget.tokens)), *accounts]

    def _read_quotas(self, quotas: Quotas, groups: Sequence[str] | None) -> None:
        if groups is None:
            raise ConfigError("quotas need the group of every sample", pointer="#/quotas")
        if len(groups) != len(self._open):
            raise PoolError(f"groups must hold one name for each of the {len(self._open)} samples")
        code_of = {name: code for code, name in enumerate(sorted(set(groups)))}
        self._codes = torch.tensor([code_of[name] for name in groups], dtype=torch.int64)
        for name, floor in quotas.floors.items():
            have = int((self._codes[self._open] == code_of.get(name, -1)).sum())
            if floor > have:
                raise BudgetError(
                    f"the floor of {name!r} is {floor}, the pool has {have} such samples",
                    pointer=f"#/quotas/floors/{escaped(name)}",
                )
            if floor > 0:
                self._unmet[code_of[name]] = floor
        self._room = {code_of[name]: cap for name, cap in quotas.caps.items() if name in code_of}
        for name, cap in quotas.caps.items():
            forced = int((self._codes[self._forced] == code_of.get(name, -1)).sum())
            if forced > cap:
                raise BudgetError(
                    f"the cap of {name!r} is {cap}, {forced} such samples must be included",
                    pointer=f"#/quotas/caps/{escaped(name)}",
                )
        counts = torch.bincount(self._codes[self._open], minlength=len(code_of)).tolist()
        reachable = sum(min(have, self._room.get(code, have)) for code, have in enumerate(counts))
        if self._accounts[0].pointer == "#/budget/count" and reachable < self.limit:
            raise BudgetError(
                f"the caps leave {reachable} samples, {self.limit} are asked for", pointer="#/quotas/caps"
            )
        self.limit = min(self.limit, reachable)

    def _require_forced_fit(self) -> None:
        """The rows that must be included and the floors have to fit every account together.

        Raises:
            BudgetError: They do not.
        """
        unmet = dict(self._unmet)
        if self._codes is not None:
            for code in self._codes[self._forced].tolist():
                unmet[code] = max(0, unmet.get(code, 0) - 1)
        unmet = {code: needed for code, needed in unmet.items() if needed > 0}
        for account in self._accounts:
            needed = float(account.costs[self._forced].sum())
            if self._codes is not None and unmet:
                needed += account.reserve(self._codes, unmet, self._open & ~self._forced)[0]
            if needed > account.left:
                what = "the floors and the rows that must be included" if unmet else "the rows that must be included"
                name = account.pointer.split("/")[-1]
                raise BudgetError(
                    f"{what} need at least {needed:.0f} of {name}, which is {account.left:.0f}",
                    pointer="#/quotas/floors" if unmet else account.pointer,
                )

    def _close(self) -> None:
        if self.is_forced:
            self.allowed = self._forced.clone()
            return
        unmet = {code: needed for code, needed in self._unmet.items() if needed > 0}
        for account in self._accounts:
            needs, left = account.costs, account.left
            if self._codes is not None and unmet:
                reserve, released = account.reserve(self._codes, unmet, self._open)
                needs, left = needs - released, left - reserve
            self._open &= needs <= left
        if self._codes is not None:
            for code, room in self._room.items():
                if room <= 0:
                    self._open &= self._codes != code
        self.allowed = self._open.clone()
