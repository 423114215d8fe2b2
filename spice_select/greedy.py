"""``select``: greedy choice with the conflict penalty, exact, ties to the lower row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from spice_select.config import SelectionConfig
from spice_select.conflict import conflict
from spice_select.diagnostics import certify
from spice_select.errors import BudgetError, ConfigError, PoolError
from spice_select.fisher import log_determinant
from spice_select.candidates import Gradients, Candidates
from spice_select.selection import Selection, StopReason

__all__ = ["Selection", "random_control", "select"]

TIE = 1e-12


def select(
    gradients: Gradients,
    config: SelectionConfig,
    *,
    costs: Sequence[int] | torch.Tensor | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Selection:
    """Choose rows of the pool.

    Args:
        gradients: Per-sample gradients of shape (n, d), torch or numpy.
        config: What to choose and when to stop.
        costs: Tokens of every sample, shape (n,); needed for a token budget.
        on_progress: Called as (picked, total) after each pick.
        should_stop: Asked before each pick; when true the picks so far are returned as partial.

    Returns:
        The selection in pick order.
    """
    pool = Candidates(gradients)
    budget = config.budget
    limit = budget.resolve_count(pool.size)
    if limit is not None and limit > pool.size:
        raise BudgetError(f"count is {limit}, the pool has {pool.size} samples", pointer="#/budget/count")
    cost = torch.ones(pool.size, dtype=torch.float64) if costs is None else torch.as_tensor(costs, dtype=torch.float64)
    if cost.shape != (pool.size,) or not bool((cost >= 1).all()):
        raise PoolError(f"costs must hold one number >= 1 for each of the {pool.size} samples")
    if budget.tokens is not None:
        if costs is None:
            raise ConfigError("a token budget needs the tokens of every sample", pointer="#/budget/tokens")
        if float(cost.min()) > budget.tokens:
            raise BudgetError(
                f"tokens is {budget.tokens}, the shortest sample has {int(cost.min())}", pointer="#/budget/tokens"
            )
    cost = cost.to(pool.device)
    runs = [_greedy(pool, config, cost, False, limit, on_progress, should_stop, costs is not None)]
    if budget.tokens is not None and config.method in {"spice", "fisher"} and not runs[0].partial:
        runs.append(_greedy(pool, config, cost, True, limit, on_progress, should_stop, True))
    return max(reversed(runs), key=lambda selection: selection.utility)


def _greedy(
    pool: Candidates,
    config: SelectionConfig,
    cost: torch.Tensor,
    per_token: bool,
    limit: int | None,
    on_progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
    has_costs: bool,
) -> Selection:
    n, device, alpha = pool.size, pool.device, config.alpha
    penalty = config.conflict_penalty if config.method != "fisher" else 0.0
    forms = pool.squared_norms.clone()
    products = torch.zeros(n, dtype=torch.float64, device=device)
    total = torch.zeros(pool.dimension, dtype=torch.float64, device=device)
    denominator = torch.ones(pool.dimension, dtype=torch.float64, device=device)
    directions = torch.zeros(0, pool.dimension, dtype=torch.float64, device=device)
    open_rows = torch.ones(n, dtype=torch.bool, device=device)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(config.seed)).to(device)
    left = math.inf if config.budget.tokens is None else float(config.budget.tokens)
    maximum = limit if limit is not None else int((cost.sort().values.cumsum(0) <= left).sum())
    indices: list[int] = []
    gains: list[float] = []
    bases: list[float] = []
    conflicts: list[float] = []
    scores: list[float] = []
    reason: StopReason = "budget_reached"
    while limit is None or len(indices) < limit:
        if should_stop is not None and should_stop():
            reason = "cancelled"
            break
        if len(indices) == n:
            reason = "pool_exhausted"
            break
        open_rows &= cost <= left
        if not bool(open_rows.any()):
            break
        if config.information == "logdet":
            gain = torch.log1p(alpha * forms.clamp(min=0))
        elif config.information == "scalar":
            gain = torch.log1p(alpha * pool.squared_norms / (1 + alpha))
        else:
            gain = torch.log1p(alpha * torch.cat([(b * b / denominator).sum(1) for _, b in pool.blocks()]))
        size = max(1, len(indices))
        opposed = conflict(products / size, pool.squared_norms, float(total.norm()) / size)
        score = gain - penalty * opposed
        ranked, tolerance = score, TIE * (gain + penalty * opposed)
        if config.method == "top_norm":
            ranked, tolerance = pool.squared_norms, TIE * pool.squared_norms
        elif config.method == "random":
            ranked = torch.empty_like(score)
            ranked[order] = -torch.arange(n, dtype=torch.float64, device=device)
            tolerance = torch.zeros_like(score)
        if per_token:
            ranked, tolerance = ranked / cost, tolerance / cost
        ranked = torch.where(open_rows, ranked, -math.inf)
        best = int(ranked.argmax())
        pick = int(torch.nonzero(ranked >= ranked[best] - tolerance[best])[0])
        value = float(gain[pick])
        if (
            config.stop_ratio is not None
            and config.method != "random"
            and gains
            and value <= config.stop_ratio * gains[0]
        ):
            reason = "stop_ratio"
            break
        indices.append(pick)
        gains.append(value)
        bases.append(math.log1p(alpha * float(pool.squared_norms[pick])))
        conflicts.append(float(opposed[pick]))
        scores.append(float(ranked[pick]) if config.method in {"spice", "fisher"} else float(score[pick]))
        open_rows[pick] = False
        left -= float(cost[pick]) if config.budget.tokens is not None else 0.0
        g = pool.take(torch.tensor([pick], device=device))[0]
        total += g
        if config.information == "logdet":
            u = g - (directions @ g) @ directions
            u *= math.sqrt(alpha / (1 + alpha * max(0.0, float(g @ u))))
            directions = torch.cat([directions, u[None]])
            for start, block in pool.blocks():
                forms[start : start + len(block)] -= (block @ u) ** 2
        elif config.information == "diagonal":
            denominator += alpha * g.pow(4)
        for start, block in pool.blocks():
            products[start : start + len(block)] = block @ total
        if on_progress is not None:
            on_progress(len(indices), maximum)
    rows = pool.take(torch.tensor(indices, dtype=torch.int64, device=device))
    utility = log_determinant(rows, alpha)
    epsilons = [gain - base for gain, base in zip(gains, bases, strict=True)]
    certificate = certify(
        pool,
        indices,
        config,
        utility=utility,
        gains=gains,
        epsilons=epsilons,
        conflicts=conflicts,
    )
    return Selection(
        indices,
        gains,
        bases,
        epsilons,
        conflicts,
        scores,
        reason,
        utility,
        certificate,
        reason == "cancelled",
        config.method,
        n * len(indices),
        "score_per_token" if per_token else "score",
        int(sum(float(cost[i]) for i in indices)) if has_costs else None,
    )


def random_control(gradients: Gradients, config: SelectionConfig, count: int, seed: int) -> float:
    """Utility (nats) of ``count`` rows drawn at random with this seed: what the choice has to beat.

    Args:
        gradients: Per-sample gradients of shape (n, d).
        config: The run's settings; alpha is used.
        count: Rows to draw, at most n.
        seed: Seed of the draw.
    """
    pool = Candidates(gradients)
    order = torch.randperm(pool.size, generator=torch.Generator().manual_seed(seed))[:count]
    return log_determinant(pool.take(order.to(pool.device)), config.alpha)
