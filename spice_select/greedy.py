"""``select``: the greedy choice with the conflict penalty, exact, ties to the lower row.

This file is the rule and the order of events; the work is elsewhere: ``front`` finds the next pick under logdet,
``lazy`` under the surrogates, ``baselines`` orders the controls, ``allowance`` keeps the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from spice_select.allowance import Allowance, read_costs
from spice_select.baselines import FixedOrder, random_control
from spice_select.candidates import Candidates, Gradients
from spice_select.config import SelectionConfig
from spice_select.diagnostics import certify
from spice_select.fisher import log_determinant
from spice_select.front import Front, PrecisionLostError
from spice_select.lazy import LazyGreedy
from spice_select.scoring import Proposal, Rule
from spice_select.selection import Selection, StopReason
from spice_select.surrogates import surrogate
from spice_select.whitening import WhitenedRows

__all__ = ["Selection", "random_control", "select"]

Progress = Callable[[int, int], None]


class Engine(Protocol):
    """Finds the next pick; ``accept`` makes it part of the set."""

    refreshed: int

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The next pick among the allowed rows, or None when there is none."""

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set."""


def select(
    gradients: Gradients | Candidates,
    config: SelectionConfig,
    *,
    costs: Sequence[int] | torch.Tensor | None = None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Selection:
    """Choose rows of the pool by the configured method.

    A token budget is filled twice, once by gain per token and once by plain gain, and the set with the larger utility
    is returned: neither alone has a guarantee, the better of the two does.

    Args:
        gradients: Per-sample gradients of shape (n, d), any real dtype, torch on any device or numpy.
        config: What to choose and when to stop.
        costs: Tokens of every sample, whole numbers of shape (n,); needed for a token budget.
        on_progress: Called as (picked, most picks possible) after each pick.
        should_stop: Asked before each pick; when true, the picks so far are returned as partial.

    Returns:
        The selection in pick order. The same input gives the same selection on every machine and device.

    Raises:
        BudgetError: More asked for than the pool holds, or a token budget below its shortest sample.
        ConfigError: A token budget without ``costs``.
        EmptyPoolError: The pool has no row.
        NonFiniteGradientError: A gradient holds NaN or infinity; the rows are named.
        PoolError: ``gradients`` is not a real matrix, or ``costs`` do not fit it.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the parts this calls, and part of its promise
    candidates = gradients if isinstance(gradients, Candidates) else Candidates(gradients)
    tokens = read_costs(costs, candidates.size)
    runs = [_run(candidates, config, tokens, False, on_progress, should_stop)]
    if config.budget.tokens is not None and config.method in {"spice", "fisher"} and not runs[0].partial:
        runs.append(_run(candidates, config, tokens, True, on_progress, should_stop))
    return max(reversed(runs), key=lambda run: run.utility)


def _run(
    candidates: Candidates,
    config: SelectionConfig,
    tokens: torch.Tensor | None,
    per_token: bool,
    on_progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> Selection:
    allowance = Allowance(config.budget, candidates.size, tokens)
    rule = Rule(0.0 if config.method == "fisher" else config.conflict_penalty, tokens if per_token else None)
    copies = candidates.next_copies(torch.zeros(candidates.size) if tokens is None else tokens)
    engine = _engine(candidates, config, rule, copies)
    picks: list[Proposal] = []
    reason: StopReason = "budget_reached"
    while not allowance.is_used_up:
        if should_stop is not None and should_stop():
            reason = "cancelled"
            break
        try:
            proposal = engine.propose(allowance.allowed)
        except PrecisionLostError:
            engine = _replay(candidates, config, rule, copies, picks, engine.refreshed)
            continue
        if proposal is None:
            break
        if picks and _is_too_small(config, proposal, picks[0]):
            reason = "stop_ratio"
            break
        engine.accept(proposal)
        allowance.take(proposal.row)
        picks.append(proposal)
        if on_progress is not None:
            on_progress(len(picks), allowance.limit)
    if reason == "budget_reached" and config.budget.tokens is not None and len(picks) == candidates.size:
        reason = "pool_exhausted"
    return _selection(candidates, config, tokens, per_token, picks, reason, engine.refreshed)


def _is_too_small(config: SelectionConfig, proposal: Proposal, first: Proposal) -> bool:
    """The early stop: a gain of at most omega times the first. A random draw has no such rule."""
    if config.stop_ratio is None or config.method == "random":
        return False
    if config.method == "top_norm":
        return proposal.score <= config.stop_ratio * first.score
    return proposal.gain <= config.stop_ratio * first.gain


def _engine(candidates: Candidates, config: SelectionConfig, rule: Rule, copies: torch.Tensor) -> Engine:
    if config.method in {"random", "top_norm"}:
        return FixedOrder(candidates, config)
    if config.information == "logdet":
        return Front(candidates, config.alpha, rule, copies)
    return LazyGreedy(candidates, surrogate(candidates, config.information, config.alpha), rule, copies)


def _replay(
    candidates: Candidates,
    config: SelectionConfig,
    rule: Rule,
    copies: torch.Tensor,
    picks: Sequence[Proposal],
    refreshed: int,
) -> Engine:
    """The slower, safer engine in the state after these picks."""
    information = WhitenedRows(candidates, config.alpha)
    engine = LazyGreedy(candidates, information, rule, copies)
    for pick in picks:
        information.gains(torch.tensor([pick.row]))
        engine.accept(pick)
    engine.refreshed += refreshed
    return engine


def _selection(
    candidates: Candidates,
    config: SelectionConfig,
    tokens: torch.Tensor | None,
    per_token: bool,
    picks: Sequence[Proposal],
    reason: StopReason,
    refreshed: int,
) -> Selection:
    indices = torch.tensor([pick.row for pick in picks], dtype=torch.int64)
    utility = log_determinant(candidates.take(indices), config.alpha)
    gains, conflicts = [pick.gain for pick in picks], [pick.conflict for pick in picks]
    bases = torch.log1p(config.alpha * candidates.squared_norms.cpu()[indices]).tolist()
    epsilons = [gain - base for gain, base in zip(gains, bases, strict=True)]
    return Selection(
        indices=indices.tolist(),
        gains=gains,
        base_gains=bases,
        epsilons=epsilons,
        conflicts=conflicts,
        scores=[pick.score for pick in picks],
        stop_reason=reason,
        utility=utility,
        certificate=certify(
            candidates, indices, config, utility=utility, gains=gains, epsilons=epsilons, conflicts=conflicts
        ),
        partial=reason == "cancelled",
        method=config.method,
        refreshed=refreshed,
        rule="score_per_token" if per_token else "score",
        cost=None if tokens is None else int(tokens[indices].sum()),
    )
