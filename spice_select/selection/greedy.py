"""One pool: pick after pick until the budget is used up or the gains are too small, then the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from spice_select.config import SelectionConfig
from spice_select.errors import ConfigError
from spice_select.selection.active_set import ActiveSet
from spice_select.selection.budget import Allowance
from spice_select.selection.certificate import certify, quadratic_forms
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.kernel_greedy import KernelGreedy
from spice_select.selection.logdet import PrecisionLostError, log_determinant
from spice_select.selection.methods import GREEDY, Engine, SideData, engine, has_tasks, is_targeted
from spice_select.selection.result import STOPPED, Selection, StopReason, StopRequest
from spice_select.selection.scoring import Proposal
from spice_select.selection.target_certificate import relevance_bound
from spice_select.selection.target_rule import read_targets


def choose(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: StopRequest | None = None,
    *,
    certified: bool = True,
) -> Selection:
    """Choose from one pool.

    Args:
        candidates: The pool.
        config: What to choose and when to stop; its scope is not looked at.
        side: What else is known about the samples.
        on_progress: Called as (picked, most picks possible) after each pick.
        should_stop: Asked before each pick; when true, or told why, the picks so far are returned as partial.
        certified: Whether to prove how good the set is.

    Returns:
        The selection; for a token budget the better of gain per token and plain gain.
    """
    model = _model_of_lengths(candidates, config, side, should_stop) if config.method == "length_matched" else None
    runs = [_run(candidates, config, side, False, model, on_progress, should_stop)]
    if config.budget.tokens is not None and config.method in GREEDY and not runs[0][0].partial:
        runs.append(_run(candidates, config, side, True, model, on_progress, should_stop))
    best, last = max(reversed(runs), key=lambda run: _worth(run[0], config, side))
    if not certified:
        return best
    marginals = (
        last.upper_bounds(torch.tensor(best.indices, dtype=torch.int64))
        if isinstance(last, ActiveSet | KernelGreedy)
        else None
    )
    proven = replace(best, certificate=certify(candidates, config, side, best, marginals))
    if not is_targeted(config, side) or config.target_rule != "relevance" or config.budget.tokens is not None:
        return proven
    return _with_objective(candidates, config, side, proven, marginals)


def _with_objective(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    selection: Selection,
    marginals: torch.Tensor | None,
) -> Selection:
    """The selection with its objective and the bound on it, where the marginal gains can be had."""
    if marginals is None:
        rows = candidates.take(torch.tensor(selection.indices, dtype=torch.int64))
        members = rows if side.given is None else torch.cat([side.given, rows])
        forms = quadratic_forms(candidates, members, config.alpha)
        if forms is None:
            return selection
        marginals = torch.log1p(config.alpha * forms).cpu()
    means = read_targets(side.targets, side.target_weights).means
    picks, tasks = selection.indices, selection.tasks or []
    value, bound = relevance_bound(
        candidates, means, config, picks, tasks, selection.utility, marginals, side.charges(config)
    )
    return replace(selection, objective=value, objective_bound=bound)


def _worth(selection: Selection, config: SelectionConfig, side: SideData) -> float:
    """What of two fillings of a token budget the better one has more of.

    Utility less what the rows pay for protected sets; with targets the sum of scores.
    """
    if not is_targeted(config, side):
        return selection.utility - sum(selection.charges or ())
    costs = [1.0] * len(selection.indices)
    if selection.rule == "score_per_token" and side.costs is not None:
        costs = side.costs[torch.tensor(selection.indices, dtype=torch.int64)].tolist()
    return sum(score * cost for score, cost in zip(selection.scores, costs, strict=True))


def _model_of_lengths(
    candidates: GradientMatrix, config: SelectionConfig, side: SideData, should_stop: StopRequest | None
) -> Sequence[int]:
    if side.costs is None:
        raise ConfigError("the method length_matched needs the tokens of every sample", pointer="#/method")
    return choose(candidates, config.model_copy(update={"method": "spice"}), side, should_stop=should_stop).indices


def _run(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    per_token: bool,
    model: Sequence[int] | None,
    on_progress: Callable[[int, int], None] | None,
    should_stop: StopRequest | None,
) -> tuple[Selection, Engine]:
    allowance = Allowance(
        config,
        candidates.size,
        side.costs,
        groups=side.groups,
        must_include=side.must_include,
        exclude=side.exclude,
    )
    current = engine(candidates, config, side, per_token=per_token, model=model)
    picks: list[Proposal] = []
    reason: StopReason = "budget_reached"
    while not allowance.is_used_up:
        stopped = should_stop is not None and should_stop()
        if stopped:
            reason = "cancelled" if stopped is True else stopped
            break
        try:
            proposal = current.propose(allowance.allowed)
        except PrecisionLostError:
            current = current.safer(side.given, picks)
            continue
        if proposal is None:
            break
        stop = None if allowance.is_owed else _too_small(config, proposal, picks)
        if stop is not None:
            reason = stop
            break
        current.accept(proposal)
        allowance.take(proposal.row)
        picks.append(proposal)
        if on_progress is not None:
            on_progress(len(picks), allowance.limit)
    is_everything = len(picks) + len(set(side.exclude)) == candidates.size
    if reason == "budget_reached" and is_everything and config.budget.tokens is not None:
        reason = "pool_exhausted"
    return describe(candidates, config, side, per_token, picks, reason, current.refreshed), current


def _too_small(config: SelectionConfig, proposal: Proposal, picks: Sequence[Proposal]) -> StopReason | None:
    """The early stop: a gain of at most omega times the first, or below the least gain; only where gain is the rule."""
    if len(picks) < max(1, config.min_count or 0) or config.method not in {*GREEDY, "top_norm"}:
        return None
    by_score = config.method == "top_norm"
    gain, first = (proposal.score, picks[0].score) if by_score else (proposal.gain, picks[0].gain)
    if config.stop_ratio is not None and gain <= config.stop_ratio * first:
        return "stop_ratio"
    return "min_gain" if config.min_gain is not None and gain <= config.min_gain else None


def describe(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    per_token: bool,
    picks: Sequence[Proposal],
    reason: StopReason,
    refreshed: int,
) -> Selection:
    """The selection that these picks make, without a certificate.

    Args:
        candidates: The pool.
        config: Settings of the run.
        side: What else is known about the samples.
        per_token: Whether scores were compared per token.
        picks: The picks in order.
        reason: Why there are no more.
        refreshed: Gains brought up to date on the way.
    """
    indices = torch.tensor([pick.row for pick in picks], dtype=torch.int64)
    gains, conflicts = [pick.gain for pick in picks], [pick.conflict for pick in picks]
    bases = torch.log1p(config.alpha * candidates.squared_norms.cpu()[indices]).tolist()
    epsilons = [gain - base for gain, base in zip(gains, bases, strict=True)]
    utility = conditional_utility(candidates, indices, side.given, config.alpha)
    charges = side.charges(config)
    return Selection(
        indices=indices.tolist(),
        gains=gains,
        base_gains=bases,
        epsilons=epsilons,
        conflicts=conflicts,
        scores=[pick.score for pick in picks],
        stop_reason=reason,
        utility=utility,
        certificate=None,
        partial=reason in STOPPED,
        method=config.method,
        refreshed=refreshed,
        rule="score_per_token" if per_token else "score",
        tasks=[pick.task for pick in picks] if has_tasks(config, side) else None,
        relevances=[pick.relevance for pick in picks] if has_tasks(config, side) else None,
        margins=[pick.margin for pick in picks] if config.method in GREEDY else None,
        resolutions=[pick.resolution for pick in picks] if config.method in GREEDY else None,
        cost=None if side.costs is None else int(side.costs[indices].sum()),
        charges=None if charges is None else charges[indices].tolist(),
        opposition=None if side.protected is None else side.protected.report(indices.tolist(), side.exclude),
    )


def conditional_utility(
    candidates: GradientMatrix, rows: torch.Tensor, given: torch.Tensor | None, alpha: float
) -> float:
    """U(S | given) = U(S and given) - U(given), nats; U(S) when nothing is given.

    Args:
        candidates: The pool.
        rows: S, int64 of shape (k,).
        given: Gradients already owned, float64 of shape (m, d), or None.
        alpha: Fisher scale.
    """
    chosen = candidates.take(rows)
    if given is None:
        return log_determinant(chosen, alpha)
    return log_determinant(torch.cat([given, chosen]), alpha) - log_determinant(given, alpha)
