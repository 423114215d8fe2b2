"""Which engine makes the picks of which method, on one store of gradients and with one signature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from spice_select.config import SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.selection.active_set import ActiveSet
from spice_select.selection.baseline_runner import BaselineSelector, Control
from spice_select.selection.baselines import (
    Ranking,
    descending_order,
    gains_alone,
    length_matched_order,
    random_order,
    read_losses,
    similarity,
    stratified_order,
)
from spice_select.selection.coverage import DPP_RIDGE, FacilityLocation, FarthestFirst, Greedy, dpp
from spice_select.selection.current_greedy import CurrentGreedy
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.herding import Herding
from spice_select.selection.kernel_columns import fits
from spice_select.selection.kernel_greedy import KernelGreedy
from spice_select.selection.lazy_greedy import LazyGreedy
from spice_select.selection.matching_rule import MatchingRule, pool_mean
from spice_select.selection.protected import Protected
from spice_select.selection.round_robin import RoundRobin, cosines
from spice_select.selection.scoring import ComparisonRule, Proposal, Rule
from spice_select.selection.surrogates import surrogate
from spice_select.selection.target_rule import TargetRule, read_shares, read_targets

GREEDY = {"spice", "fisher"}
"""Methods that compare scores; the others are controls."""
IN_TURN = {"bm25", "embedding"}
"""Methods by which the target rows pick in turn."""


def has_tasks(config: SelectionConfig, side: SideData) -> bool:
    """Whether each pick serves a target that can be named.

    Args:
        config: Settings of the run.
        side: What else is known about the samples.
    """
    return bool(side.targets) and config.method in GREEDY | IN_TURN


def is_targeted(config: SelectionConfig, side: SideData) -> bool:
    """Whether gradients are compared with those of a target.

    Args:
        config: Settings of the run.
        side: What else is known about the samples.
    """
    return bool(side.targets) and config.method in GREEDY


class Engine(Protocol):
    """Finds the next pick; ``accept`` makes it part of the set."""

    @property
    def refreshed(self) -> int:
        """Number of times a gain was brought up to date."""

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set, before the first pick."""

    def safer(self, given: torch.Tensor | None, picks: Sequence[Proposal]) -> Engine:
        """The same rule after these picks, computed in the way that bears gradients of any length."""

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The next pick among the allowed rows, or None when there is none."""

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set."""


@dataclass(frozen=True)
class SideData:
    """What is known about the samples beside their gradients.

    Attributes:
        costs: Tokens of every sample, float64 of shape (n,).
        groups: Group of every sample.
        losses: Loss of every sample, nats.
        targets: Gradients of the rows of each target, float64 of shape (m, d).
        target_weights: Weight of each target; None for equal ones.
        target_scores: Score of every sample for each row of each target, float64 of shape (n, m), for ``bm25``.
        given: Gradients of samples already owned, float64 of shape (m, d).
        protected: How the rows point relative to the sets that must not get worse.
        must_include: Rows that are chosen before any other.
        exclude: Rows that are never chosen.
    """

    costs: torch.Tensor | None = None
    groups: Sequence[str] | None = None
    losses: Sequence[float] | torch.Tensor | None = None
    targets: tuple[torch.Tensor, ...] = ()
    target_weights: Sequence[float] | None = None
    target_scores: tuple[torch.Tensor, ...] = ()
    given: torch.Tensor | None = None
    protected: Protected | None = None
    must_include: Sequence[int] = ()
    exclude: Sequence[int] = ()

    def charges(self, config: SelectionConfig) -> torch.Tensor | None:
        """What every row pays for the protected sets, float64 of shape (n,); None without any.

        Args:
            config: Settings of the run.
        """
        return None if self.protected is None else self.protected.charges(config.protect_weight)


def engine(
    candidates: GradientMatrix, config: SelectionConfig, side: SideData, *, per_token: bool, model: Sequence[int] | None
) -> Engine:
    """The engine of a run, with the given samples in its set.

    Args:
        candidates: The pool.
        config: Settings of the run.
        side: What else is known about the samples.
        per_token: Compare scores per token.
        model: Rows that SPICE chooses with the same settings, for ``length_matched``.
    """
    built: Engine
    if config.method in GREEDY:
        rule = _rule(candidates, config, side, side.costs if per_token else None)
        copies = _copies(candidates, side)
        if config.information == "logdet" and isinstance(rule, TargetRule) and config.span:
            built = CurrentGreedy(candidates, rule, config.alpha, copies)
        elif config.information == "logdet" and rule.needs_products and fits(candidates):
            picks = config.budget.resolve_count(candidates.size) or candidates.size
            built = KernelGreedy(candidates, config.alpha, rule, copies, picks)
        elif config.information == "logdet":
            built = ActiveSet(candidates, config.alpha, rule, copies)
        else:
            built = LazyGreedy(candidates, surrogate(candidates, config.information, config.alpha), rule, copies)
    else:
        built = Control(_chooser(candidates, config, side, model), candidates, config)
    if side.given is not None:
        built.absorb(side.given)
    return built


def _rule(
    candidates: GradientMatrix, config: SelectionConfig, side: SideData, costs: torch.Tensor | None
) -> ComparisonRule:
    """What candidates are compared by.

    Raises:
        ConfigError: Weights that leave nothing to compare, or that belong to a selection without targets.
    """
    if not side.targets:
        penalty = config.conflict_penalty if config.method == "spice" else 0.0
        rule = Rule(penalty, costs, config.information_weight, candidates.tie, side.charges(config))
        if config.matching_weight == 0:
            return rule
        mean, norm = pool_mean(candidates)
        return MatchingRule(candidates, mean, norm, config.matching_weight, rule) if norm > 0 else rule
    if config.matching_weight > 0:
        raise ConfigError("matching_weight is for a selection without targets", pointer="#/matching_weight")
    if config.relevance_weight == 0:
        raise ConfigError("with relevance_weight 0 the targets would count for nothing", pointer="#/relevance_weight")
    targets = read_targets(side.targets, side.target_weights)
    return TargetRule(candidates, targets, config, costs, side.charges(config))


def _copies(candidates: GradientMatrix, side: SideData) -> torch.Tensor:
    """Rows stand for each other only if nothing else tells them apart either."""
    keys = torch.zeros(candidates.size, 4, dtype=torch.float64)
    if side.costs is not None:
        keys[:, 0] = side.costs
    if side.groups is not None:
        codes = {name: code for code, name in enumerate(sorted(set(side.groups)))}
        keys[:, 1] = torch.tensor([codes[name] for name in side.groups], dtype=torch.float64)
    keys[torch.tensor(side.must_include, dtype=torch.int64), 2] = 1.0
    keys[torch.tensor(side.exclude, dtype=torch.int64), 3] = 1.0
    return candidates.next_copies(torch.unique(keys, dim=0, return_inverse=True)[1])


def _chooser(
    candidates: GradientMatrix, config: SelectionConfig, side: SideData, model: Sequence[int] | None
) -> BaselineSelector:
    size, norms = candidates.size, candidates.squared_norms.cpu()
    match config.method:
        case "random":
            return Ranking(random_order(size, config.seed), size)
        case "stratified":
            if side.groups is None:
                raise ConfigError("the method stratified needs the group of every sample", pointer="#/method")
            codes = {name: code for code, name in enumerate(sorted(set(side.groups)))}
            order = stratified_order(torch.tensor([codes[name] for name in side.groups]), config.seed)
            return Ranking(order, size)
        case "length_matched":
            assert side.costs is not None
            assert model is not None
            return Ranking(length_matched_order(side.costs, model, config.seed), size)
        case "top_norm":
            return Ranking(descending_order(norms), size, gains_alone(norms, config))
        case "loss":
            losses = read_losses(side.losses, size)
            return Ranking(descending_order(losses), size, losses)
        case "less":
            if not side.targets:
                raise ConfigError("the method less needs the gradients of a target set", pointer="#/method")
            values = similarity(candidates, torch.cat(side.targets))
            return Ranking(descending_order(values), size, values)
        case "bm25" | "embedding":
            return _in_turn(candidates, config, side)
        case "herding":
            return Herding(candidates)
        case "k_center":
            return FarthestFirst(candidates, side.given)
        case "dpp":
            process = dpp(candidates, _copies(candidates, side))
            if side.given is not None:
                process.absorb(torch.nn.functional.normalize(side.given, dim=1, eps=1e-300))
            return Greedy(process, math.log(DPP_RIDGE))
        case _:
            located = LazyGreedy(candidates, FacilityLocation(candidates), Rule(0.0), _copies(candidates, side))
            if side.given is not None:
                located.absorb(side.given)
            return Greedy(located)


def _in_turn(candidates: GradientMatrix, config: SelectionConfig, side: SideData) -> RoundRobin:
    """The target rows pick in turn.

    Raises:
        ConfigError: There are no targets, or no scores for them.
        PoolError: Scores that are not one finite number for each sample and target row.
    """
    if not side.targets:
        raise ConfigError(f"the method {config.method} needs a target", pointer="#/method")
    scores = side.target_scores
    if config.method == "embedding":
        scores = tuple(cosines(candidates, rows) for rows in side.targets)
    elif not scores:
        raise ConfigError("the method bm25 needs target_scores, see bm25_scores", pointer="#/method")
    for number, (rows, score) in enumerate(zip(side.targets, scores, strict=True)):
        if score.shape != (candidates.size, len(rows)) or not bool(torch.isfinite(score).all()):
            raise PoolError(
                f"target_scores must hold a finite number for each of {candidates.size} samples and {len(rows)} rows",
                pointer=f"#/target_scores/{number}",
            )
    return RoundRobin(scores, read_shares(len(side.targets), side.target_weights))
