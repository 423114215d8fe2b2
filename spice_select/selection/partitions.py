"""Pools cut into parts: the authors' independent windows, and two-round greedy over partitions.

The result carries a certificate over the whole pool, and says what the cutting cost on a sample of the pool small
enough for the exact greedy. The first round of a partitioned run can be taken on many machines:
``select_one_partition`` needs the rows of its part, and ``select_in_scope`` takes what the parts chose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from spice_select.config import Budget, GlobalScope, SelectionConfig, WindowsScope
from spice_select.errors import BudgetError, ConfigError
from spice_select.selection.baselines import random_order
from spice_select.selection.certificate import certify
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.greedy import choose, conditional_utility, describe
from spice_select.selection.methods import SideData
from spice_select.selection.result import STOPPED, ScopeReport, Selection, StopReason, StopRequest
from spice_select.selection.scoring import Proposal

SAMPLE = 2048
"""Samples on which the cut greedy is compared with the exact one."""

Progress = Callable[[int, int], None]
Stop = StopRequest


@dataclass(frozen=True)
class Part:
    """What was chosen from a part of a pool.

    Attributes:
        picks: The picks, with rows of the whole pool and the gains and conflicts they had in the part.
        stop_reason: Why it ended.
        refreshed: Gains brought up to date.
    """

    picks: list[Proposal]
    stop_reason: StopReason
    refreshed: int

    @property
    def rows(self) -> torch.Tensor:
        """Rows of the picks, int64 of shape (k,)."""
        return torch.tensor([pick.row for pick in self.picks], dtype=torch.int64)


def select_in_scope(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    on_progress: Progress | None = None,
    should_stop: Stop | None = None,
    parts: Sequence[Part] | None = None,
) -> Selection:
    """Choose from a pool cut as the scope says.

    Args:
        candidates: The pool.
        config: What to choose; a budget in samples, and a scope other than ``global``.
        side: What else is known about the samples.
        on_progress: Called as (picked, most picks possible) after each part; two rounds count as one.
        should_stop: Asked before each pick; when true, what there is is returned as partial.
        parts: What ``select_one_partition`` selected from every part, in order, once that is done.

    Returns:
        The selection; gains and conflicts are those each pick had where it was chosen.

    Raises:
        BudgetError: The budget exceeds the pool, or the windows cannot yield it.
        ConfigError: A token budget, quotas, or rows to include or exclude.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by selected_count() and windows_of()
    count = selected_count(candidates.size, config, side)
    if parts is None:
        chosen = _cut(candidates, config, side, count, on_progress, should_stop)
    else:
        chosen = second_round(candidates, config, side, parts, count, on_progress, should_stop)
    result = describe(candidates, config, side, False, chosen.picks, chosen.stop_reason, chosen.refreshed)
    certificate = certify(candidates, config, side, result)
    return replace(result, certificate=certificate, scope=_report(candidates, config, side, count))


def selected_count(size: int, config: SelectionConfig, side: SideData) -> int:
    """How many samples to choose from a pool that is cut.

    Args:
        size: Samples in the pool.
        config: Settings of the run.
        side: What else is known about the samples.

    Raises:
        BudgetError: The budget exceeds the pool.
        ConfigError: A token budget, quotas, or rows to include or exclude.
    """
    count = config.budget.resolve_count(size)
    if count is None:
        raise ConfigError("a pool cut into parts needs a budget in samples, not tokens", pointer="#/budget/tokens")
    if config.quotas is not None or side.must_include or side.exclude:
        raise ConfigError("quotas, must_include and exclude need the scope global", pointer="#/scope/kind")
    if count > size:
        raise BudgetError(f"count is {count}, the pool has {size} samples", pointer="#/budget/count")
    return min(count, config.max_count or count)


def part_rows(size: int, parts: int, seed: int) -> list[torch.Tensor]:
    """Rows of each part: nearly equal sizes, drawn at random, each in ascending order; no part is empty.

    Args:
        size: Number of samples, n.
        parts: Number of parts wanted; at most n are made.
        seed: Seed of the draw.
    """
    return [rows.sort().values for rows in torch.tensor_split(random_order(size, seed), min(parts, size))]


def select_partition(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    rows: torch.Tensor,
    count: int,
    should_stop: Stop | None = None,
) -> Part:
    """Choose from some rows of the pool as if they were all of it.

    Args:
        candidates: The pool.
        config: Settings of the run.
        side: What else is known about the samples of the pool.
        rows: Rows to choose from, ascending, int64 of shape (m,).
        count: How many, at most m.
        should_stop: Asked before each pick.
    """
    return select_one_partition(candidates.subset(rows), config, _beside(side, rows), rows, count, None, should_stop)


def select_one_partition(
    part: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    rows: torch.Tensor,
    count: int,
    on_progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> Part:
    """Choose from a part where the rest of the pool is not at hand.

    Args:
        part: The gradients of the part alone.
        config: Settings of the run.
        side: What else is known about the samples of the part.
        rows: Rows of the whole pool that the part holds, ascending, int64 of shape (m,).
        count: How many, at most m.
        on_progress: Called as (picked, most picks possible) after each pick.
        should_stop: Asked before each pick.
    """
    there = rows.tolist()
    chosen = choose(part, for_part(config, count), side, on_progress, should_stop, certified=False)
    picks = [
        Proposal(there[row], gain, against, score, 0)
        for row, gain, against, score in zip(chosen.indices, chosen.gains, chosen.conflicts, chosen.scores, strict=True)
    ]
    if chosen.margins is not None and chosen.resolutions is not None:
        decided = zip(picks, chosen.margins, chosen.resolutions, strict=True)
        picks = [pick._replace(margin=margin, resolution=least) for pick, margin, least in decided]
    return Part(picks, chosen.stop_reason, chosen.refreshed)


def for_part(config: SelectionConfig, count: int) -> SelectionConfig:
    """The settings of a run as they hold for one part of its pool.

    Args:
        config: Settings of the run.
        count: How many to choose from the part.
    """
    return config.model_copy(update={"budget": Budget(count=count), "max_count": None})


def second_round(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    parts: Sequence[Part],
    count: int,
    on_progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> Part:
    """Choose among the winners of the parts; the best part stands if it is better.

    Args:
        candidates: The pool.
        config: Settings of the run.
        side: What else is known about the samples.
        parts: What was chosen from each part.
        count: How many to choose.
        on_progress: Called as (picked, most picks possible) after each pick.
        should_stop: Asked before each pick.
    """
    winners = torch.cat([part.rows for part in parts]).sort().values
    among, beside = candidates.subset(winners), _beside(side, winners)
    final = select_one_partition(among, config, beside, winners, min(count, len(winners)), on_progress, should_stop)
    best = max((final, *parts), key=lambda part: conditional_utility(candidates, part.rows, side.given, config.alpha))
    picks = best.picks
    if best is final:
        before = {pick.row: pick for part in parts for pick in part.picks}
        picks = [_less_decided(pick, before[pick.row]) for pick in picks]
    return Part(picks, final.stop_reason, sum(part.refreshed for part in (final, *parts)))


def _less_decided(pick: Proposal, before: Proposal) -> Proposal:
    """A pick of the second round, with the margin of the round that decided it by less."""
    if before.margin - before.resolution >= pick.margin - pick.resolution:
        return pick
    return pick._replace(margin=before.margin, resolution=before.resolution)


def _cut(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    count: int,
    on_progress: Progress | None = None,
    should_stop: Stop | None = None,
) -> Part:
    if isinstance(config.scope, WindowsScope):
        return _windows(candidates, config, config.scope, side, count, on_progress, should_stop)
    assert not isinstance(config.scope, GlobalScope)
    wanted = config.scope.parts
    parts: list[Part] = []
    for rows in part_rows(candidates.size, wanted, config.seed):
        parts.append(select_partition(candidates, config, side, rows, min(count, len(rows)), should_stop))
        if parts[-1].stop_reason in STOPPED:
            return max(parts, key=lambda part: conditional_utility(candidates, part.rows, side.given, config.alpha))
        if on_progress is not None:
            on_progress(count * len(parts) // (wanted + 1), count)
    final = second_round(candidates, config, side, parts, count, None, should_stop)
    if on_progress is not None:
        on_progress(len(final.picks), count)
    return final


def _windows(
    candidates: GradientMatrix,
    config: SelectionConfig,
    scope: WindowsScope,
    side: SideData,
    count: int,
    on_progress: Progress | None,
    should_stop: Stop | None,
) -> Part:
    picks: list[Proposal] = []
    refreshed = 0
    reason: StopReason = "budget_reached"
    for rows, share in windows_of(candidates.size, config, scope, count):
        if share == 0 or reason in STOPPED:
            continue
        part = select_partition(candidates, config, side, rows, share, should_stop)
        picks += part.picks
        refreshed += part.refreshed
        reason = part.stop_reason if part.stop_reason != "budget_reached" else reason
        if on_progress is not None:
            on_progress(len(picks), count)
    return Part(picks, reason, refreshed)


def windows_of(size: int, config: SelectionConfig, scope: WindowsScope, count: int) -> list[tuple[torch.Tensor, int]]:
    """The windows over a shuffled pool, in their order.

    Args:
        size: Samples in the pool.
        config: Its ``seed`` shuffles.
        scope: How large a window is, and how many are chosen from each.
        count: Samples to choose in all.

    Returns:
        Rows of each window, ascending, int64, and how many to choose from it.

    Raises:
        BudgetError: The windows cannot yield so many.
    """
    windows = [rows.sort().values for rows in torch.split(random_order(size, config.seed), scope.size)]
    shares = _shares([len(rows) for rows in windows], count, scope.per_window)
    if sum(shares) < count:
        raise BudgetError(
            f"{len(windows)} windows of {scope.size} yield {sum(shares)} of {count} samples", pointer="#/scope"
        )
    return list(zip(windows, shares, strict=True))


def _shares(sizes: Sequence[int], count: int, per_window: int | None) -> list[int]:
    """Picks of each window: per_window until the count is reached, or the count shared in proportion to the sizes."""
    shares: list[int] = []
    seen = 0
    for size in sizes:
        seen += size
        share = per_window if per_window is not None else seen * count // sum(sizes) - sum(shares)
        shares.append(min(share, size, count - sum(shares)))
    return shares


def _beside(side: SideData, rows: torch.Tensor) -> SideData:
    return replace(
        side,
        costs=None if side.costs is None else side.costs[rows],
        groups=None if side.groups is None else [side.groups[row] for row in rows.tolist()],
        losses=None if side.losses is None else torch.as_tensor(side.losses, dtype=torch.float64)[rows],
    )


def _report(candidates: GradientMatrix, config: SelectionConfig, side: SideData, count: int) -> ScopeReport:
    """What the cutting costs: the same scope and the exact greedy on the same sample of the pool."""
    rows = random_order(candidates.size, config.seed)[:SAMPLE].sort().values
    sample, beside = candidates.subset(rows), _beside(side, rows)
    share = max(1, count * len(rows) // candidates.size)
    everything = torch.arange(len(rows))
    utilities = [
        conditional_utility(sample, part.rows, side.given, config.alpha)
        for part in (
            _cut(sample, config, beside, share),
            select_partition(sample, config, beside, everything, share),
        )
    ]
    return ScopeReport(
        kind=config.scope.kind,
        sample=len(rows),
        sample_count=share,
        utility=utilities[0],
        exact_utility=utilities[1],
        loss=1.0 - utilities[0] / utilities[1] if utilities[1] > 0 else 0.0,
    )
