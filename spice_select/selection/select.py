"""``select``: the greedy choice with the conflict penalty, exact, ties to the lower row.

This file reads the inputs. The loop of picks is in ``picking``, who makes the next pick in ``methods`` (under logdet it
is ``front``), what a budget still allows in ``allowance``, pools cut into parts in ``scopes``, and what is proven
afterwards in ``diagnostics``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from spice_select.arrays import StackedArrays, StoreDtype
from spice_select.config import SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.selection.baselines import read_losses
from spice_select.selection.budget import read_costs
from spice_select.selection.gradient_matrix import GradientMatrix, Gradients
from spice_select.selection.greedy import choose
from spice_select.selection.methods import GREEDY, SideData, is_targeted
from spice_select.selection.partitions import Part, part_rows, select_in_scope, select_one_partition, selected_count
from spice_select.selection.protected import Protected, protect_from
from spice_select.selection.random_baseline import random_control, random_curve
from spice_select.selection.result import Selection, StopRequest
from spice_select.selection.target_span import in_span

__all__ = ["Part", "Selection", "random_control", "random_curve", "select", "select_part"]


def select(
    gradients: Gradients | GradientMatrix,
    config: SelectionConfig,
    *,
    costs: Sequence[int] | torch.Tensor | None = None,
    groups: Sequence[str] | None = None,
    losses: Sequence[float] | torch.Tensor | None = None,
    targets: Gradients | Sequence[Gradients] | None = None,
    target_weights: Sequence[float] | None = None,
    protect: Gradients | Sequence[Gradients] | Protected | None = None,
    target_scores: Sequence[torch.Tensor] | None = None,
    given: Gradients | None = None,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    parts: Sequence[Part] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: StopRequest | None = None,
) -> Selection:
    """Choose rows of the pool by the configured method.

    A token budget is filled twice, once by gain per token and once by plain gain, and the set with the larger utility
    is returned: neither alone has a guarantee, the better of the two does.

    Args:
        gradients: Per-sample gradients of shape (n, d), any real dtype, torch on any device or numpy.
        config: What to choose and when to stop.
        costs: Tokens of every sample, whole numbers of shape (n,); needed for a token budget and ``length_matched``.
        groups: Name of the group of every sample; needed for quotas and ``stratified``.
        losses: Loss of every sample, nats; needed for ``loss``.
        targets: Gradients of target samples by the same proxy, shape (m, d), or a list of such, one for each target.
            For ``spice`` and ``fisher`` each pick serves the target furthest below its weight; needed for ``less``,
            ``embedding`` and ``bm25``, of which the last two let the rows of each target pick in turn.
            Rows are taken as they are: ``whiten`` comes before.
        target_weights: Share of the picks that each target is due, relative to the others; equal when not given.
        protect: Gradients of sets that must not get worse, shape (m, d), or a list of such, 8 at most: for ``spice``
            and ``fisher`` a row pays ``protect_weight`` times max(0, -cos) with the mean of each. Rows are taken as
            they are. Or what ``protect_from`` knows of the pool already.
        target_scores: BM25 of every sample for each row of each target, shape (n, m), see ``bm25_scores``; for
            ``bm25``.
        given: Gradients of samples already owned, shape (m, d): the choice is what adds most to them.
        must_include: Rows that are chosen before any other, in the order of the rule.
        exclude: Rows that are never chosen.
        parts: What ``select_part`` chose from each part, in order, for the scope ``partitioned``: only the second round
            is left to do, and the gradients are read once in blocks beside the rows that the parts chose.
        on_progress: Called as (picked, most picks possible) after each pick.
        should_stop: Asked before each pick; when true, the picks so far are returned as partial. ``"deadline"`` as the
            answer stops likewise and is the stop reason in the place of ``cancelled``.

    Returns:
        The selection in pick order. The same input gives the same selection on every machine and device.

    Raises:
        BudgetError: More asked for than the pool holds, a token budget below its shortest sample, or quotas that
            cannot be met.
        ConfigError: A method, budget or quota without the data it needs.
        EmptyPoolError: The pool has no row.
        NonFiniteGradientError: A gradient holds NaN or infinity; the rows are named.
        PoolError: An input that is not a real matrix, or does not fit the pool.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the parts this calls, and part of its promise
    candidates = gradients if isinstance(gradients, GradientMatrix) else GradientMatrix(gradients)
    if groups is not None and len(groups) != candidates.size:
        raise PoolError(f"groups must hold one name for each of the {candidates.size} samples")
    side = SideData(
        costs=read_costs(costs, candidates.size),
        groups=groups,
        losses=losses,
        targets=tuple(_beside(rows, candidates, f"targets/{place}") for place, rows in enumerate(_listed(targets))),
        target_weights=target_weights,
        protected=_protected(protect, targets, candidates, config),
        target_scores=tuple(scores.double() for scores in target_scores or ()),
        given=None if given is None else _beside(given, candidates, "given"),
        must_include=tuple(must_include),
        exclude=tuple(exclude),
    )
    if config.quotas is not None and config.quotas.from_targets:
        raise ConfigError("give floors: from_targets is for runs, which know the groups", pointer="#/quotas")
    if side.targets and config.scope.kind != "global":
        raise ConfigError(f"targets need the scope global, not {config.scope.kind}", pointer="#/scope/kind")
    if is_targeted(config, side) and config.span:
        candidates, side = in_span(candidates, side)
    if config.scope.kind != "global":
        return select_in_scope(candidates, config, side, on_progress, should_stop, parts)
    return choose(candidates, config, side, on_progress, should_stop)


def select_part(
    gradients: np.ndarray | StackedArrays,
    config: SelectionConfig,
    number: int,
    *,
    stored: StoreDtype = "float32",
    costs: Sequence[int] | torch.Tensor | None = None,
    losses: Sequence[float] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: StopRequest | None = None,
) -> Part | None:
    """The first round of one part of a pool whose scope is ``partitioned``; only the rows of the part are read.

    Args:
        gradients: Per-sample gradients of the whole pool, shape (n, d), numpy or on the disk.
        config: What to choose; as for ``select``.
        number: Which part, from 0.
        stored: Type in which the gradients were kept.
        costs: Tokens of every sample of the pool.
        losses: Loss of every sample of the pool, nats.
        on_progress: Called as (picked, most picks possible) after each pick.
        should_stop: Asked before each pick.

    Returns:
        What ``select`` would choose from the part in its first round, to the bit; None when the pool is too small to
        have such a part.

    Raises:
        BudgetError: More asked for than the pool holds.
        ConfigError: The scope is another, or what it cannot be combined with is asked for.
    """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by selected_count()
    if config.scope.kind != "partitioned":
        raise ConfigError("only the scope partitioned has parts", pointer="#/scope/kind")
    size = int(gradients.shape[0])
    wanted = selected_count(size, config, SideData())
    parts = part_rows(size, config.scope.parts, config.seed)
    if number >= len(parts):
        return None
    rows = parts[number]
    every = read_costs(costs, size)
    side = SideData(
        costs=None if every is None else every[rows],
        losses=None if losses is None else read_losses(losses, size)[rows],
    )
    part = GradientMatrix(gradients[rows.numpy()], stored)
    return select_one_partition(part, config, side, rows, min(wanted, len(rows)), on_progress, should_stop)


def _listed(targets: Gradients | Sequence[Gradients] | None) -> Sequence[Gradients]:
    if targets is None:
        return ()
    return [targets] if isinstance(targets, torch.Tensor | np.ndarray | StackedArrays) else targets


def _protected(
    protect: Gradients | Sequence[Gradients] | Protected | None,
    targets: Gradients | Sequence[Gradients] | None,
    candidates: GradientMatrix,
    config: SelectionConfig,
) -> Protected | None:
    """How the rows point relative to the protected sets; None without any.

    Raises:
        ConfigError: A method or a scope without use for them, or one that is a target as well.
    """
    if protect is None or (isinstance(protect, Sequence) and not protect):
        return None
    if config.method not in GREEDY:
        raise ConfigError(
            f"protected sets are for the methods spice and fisher, not {config.method}", pointer="#/protect"
        )
    if config.scope.kind != "global":
        raise ConfigError(f"protected sets need the scope global, not {config.scope.kind}", pointer="#/scope/kind")
    if isinstance(protect, Protected):
        return protect
    sets = [_beside(rows, candidates, f"protect/{place}") for place, rows in enumerate(_listed(protect))]
    wanted = [_beside(rows, candidates, f"targets/{place}") for place, rows in enumerate(_listed(targets))]
    for place, rows in enumerate(sets):
        if any(torch.equal(rows, others) for others in wanted):
            raise ConfigError(f"protected set {place} is a target as well", pointer=f"#/protect/{place}")
    return protect_from(candidates, sets)


def _beside(gradients: Gradients, candidates: GradientMatrix, name: str) -> torch.Tensor:
    """Gradients of other samples, float64 of shape (m, d) on the candidates' device.

    Raises:
        PoolError: They have another dimension.
    """
    others = GradientMatrix(gradients)
    if others.dimension != candidates.dimension:
        raise PoolError(
            f"{name} must have {candidates.dimension} features like the pool, not {others.dimension}: "
            "were they taken with the same proxy and settings?",
            pointer=f"#/{name}",
        )
    return others.take(torch.arange(others.size)).to(candidates.device)
