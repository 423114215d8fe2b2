"""What can be proven or measured about a chosen set: certificate, curvature, epsilon terms, correlations.

U(S) = logdet(I + alpha F_S) is monotone and submodular, so for every set S, however it was chosen, and every set B
U(B) <= U(S) + sum over B of Delta_x(S): the best that a budget can make of the marginal gains bounds every set within
that budget. The functions here use the smaller of the two spaces: d x d (features) or m x m (samples).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from spice_select.config import SelectionConfig
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.logdet import capacitance, stable_factor
from spice_select.selection.methods import SideData
from spice_select.selection.result import Certificate, Selection

EXACT_OPERATIONS = 5e11
"""Multiply-adds up to which curvature, cosines and epsilon bounds are computed (half a minute on two cores)."""

Bound = Literal["marginal", "base", "trace"]


def certify(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    selection: Selection,
    marginals: torch.Tensor | None = None,
) -> Certificate:
    """Prove how far from the best set within the same budget the chosen one can be, and describe it.

    Args:
        candidates: The pool, D.
        config: Settings of the run; alpha and the budget are used.
        side: Costs and given samples.
        selection: The selection, its own certificate not yet made.
        marginals: Upper bounds on Delta_x(S) of every sample of the pool, nats, float64 of shape (n,), zero for the
            chosen; None computes Delta_x(S) itself.
    """
    indices = torch.tensor(selection.indices, dtype=torch.int64)
    rows = candidates.take(indices)
    upper, bound = upper_bound(candidates, config, side, selection, marginals)
    curvature, exact = total_curvature(candidates, config.alpha)
    mean, largest = cosines(rows)
    return Certificate(
        utility=selection.utility,
        upper_bound=upper,
        ratio=min(1.0, selection.utility / upper) if upper > 0 else 1.0,
        bound=bound,
        curvature=curvature,
        curvature_exact=exact,
        greedy_bound=greedy_guarantee(curvature),
        spearman_conflict_gain=spearman(selection.conflicts, selection.gains),
        spearman_conflict_epsilon=spearman(selection.conflicts, [abs(epsilon) for epsilon in selection.epsilons]),
        epsilon_constant=epsilon_constant(rows, selection.epsilons, config.alpha) if side.given is None else None,
        mean_cosine=mean,
        max_cosine=largest,
        max_conflict=max(selection.conflicts, default=0.0),
    )


def upper_bound(
    candidates: GradientMatrix,
    config: SelectionConfig,
    side: SideData,
    selection: Selection,
    marginals: torch.Tensor | None = None,
) -> tuple[float, Bound]:
    """The smallest of the proven bounds on U over all sets within the budget, nats, and the proof it comes from.

    Args:
        candidates: The pool.
        config: Settings of the run.
        side: Costs and given samples.
        selection: The selection.
        marginals: As for ``certify``.
    """
    alpha, utility = config.alpha, selection.utility
    indices = torch.tensor(selection.indices, dtype=torch.int64)
    if len(indices) == 0:
        return 0.0, "base"
    costs, budget = torch.ones(candidates.size, dtype=torch.float64), float(len(indices))
    if config.budget.tokens is not None and side.costs is not None:
        is_full = selection.stop_reason in {"budget_reached", "pool_exhausted"}
        costs, budget = side.costs, float(config.budget.tokens if is_full else selection.cost or 0)
    bounds: dict[Bound, float] = {}
    nothing = candidates.squared_norms.new_empty(0, candidates.dimension)
    given = nothing if side.given is None else side.given
    forms = quadratic_forms(candidates, given, alpha)
    if forms is None:
        forms = candidates.squared_norms
    bounds["base"] = best_within(torch.log1p(alpha * forms).cpu(), costs, budget)
    if config.budget.tokens is None:
        rank = min(len(indices), candidates.dimension)
        bounds["trace"] = rank * math.log1p(alpha * float(forms.topk(len(indices)).values.sum()) / rank)
    if marginals is None:
        left = quadratic_forms(candidates, torch.cat([given, candidates.take(indices)]), alpha)
        marginals = None if left is None else torch.log1p(alpha * left).cpu()
    if marginals is not None:
        marginals = marginals.index_fill(0, indices, 0.0)  # a member adds nothing to a set that holds it
        bounds["marginal"] = utility + best_within(marginals, costs, budget)
    name = min(bounds, key=lambda bound: bounds[bound])
    return max(bounds[name], utility), name


def best_within(gains: torch.Tensor, costs: torch.Tensor, budget: float) -> float:
    """Largest sum of gains within a budget when a fraction of a sample may be taken: a bound on every whole choice.

    Args:
        gains: Numbers >= 0, float64 of shape (n,).
        costs: Numbers > 0, float64 of shape (n,).
        budget: Largest sum of costs.
    """
    order = (gains / costs).argsort(descending=True)
    spent = costs[order].cumsum(0)
    whole = int((spent <= budget).sum())
    best = float(gains[order[:whole]].sum())
    if whole < len(order):
        left = budget - (float(spent[whole - 1]) if whole > 0 else 0.0)
        best += float(gains[order[whole]]) * left / float(costs[order[whole]])
    return best


def quadratic_forms(candidates: GradientMatrix, rows: torch.Tensor, alpha: float) -> torch.Tensor | None:
    """g_x^T (I + alpha F_S)^-1 g_x of every sample of the pool.

    Args:
        candidates: The pool.
        rows: Gradients of S, float64 of shape (m, d).
        alpha: Fisher scale.

    Returns:
        float64 of shape (n,), or None when it is too costly, or the gradients are too unequal in length for float64.
    """
    forms = candidates.squared_norms.clone()
    if len(rows) == 0:
        return forms
    n, m, d = candidates.size, len(rows), candidates.dimension
    if float(min(m, d)) * d * (m + n) > EXACT_OPERATIONS:
        return None
    factor = stable_factor(capacitance(rows, alpha))
    if factor is None:
        return None
    for start, block in candidates.blocks():
        part = slice(start, start + len(block))
        if m <= d:
            inner = torch.linalg.solve_triangular(factor, rows @ block.T, upper=False)
            forms[part] -= alpha * inner.square().sum(dim=0)
        else:
            forms[part] = torch.linalg.solve_triangular(factor, block.T, upper=False).square().sum(dim=0)
    return forms.clamp_(min=0.0)


def total_curvature(candidates: GradientMatrix, alpha: float) -> tuple[float, bool]:
    """Total curvature c = 1 - min_x Delta_x(D without x) / Delta_x(empty), and whether it is exact.

    With the leverage h = alpha g^T (I + alpha F_D)^-1 g, Delta_x(D without x) = -log(1 - h). Samples with a zero
    gradient have no part in it. A pool whose full Fisher would cost more than ``EXACT_OPERATIONS``, or whose gradients
    are too unequal in length for float64, gets the bound c <= 1.

    Args:
        candidates: The pool, D.
        alpha: Fisher scale.

    Returns:
        c in [0, 1], and True when it is exact.
    """
    n, d = candidates.size, candidates.dimension
    alive = candidates.squared_norms > 0
    if not bool(alive.any()):
        return 0.0, True
    if float(min(n, d)) * min(n, d) * max(n, d) > EXACT_OPERATIONS:
        return 1.0, False
    full = torch.zeros(min(n, d), min(n, d), dtype=torch.float64, device=candidates.device)
    if n <= d:
        full += capacitance(torch.cat([block for _, block in candidates.blocks()]), alpha)
    else:
        full.diagonal().fill_(1.0)
        for _, block in candidates.blocks():
            full.addmm_(block.T, block, alpha=alpha)
    factor = stable_factor(full)
    if factor is None:
        return 1.0, False
    if n <= d:
        remaining = torch.cholesky_inverse(factor).diagonal()
    else:
        remaining = torch.empty(n, dtype=torch.float64, device=candidates.device)
        for start, block in candidates.blocks():
            half = torch.linalg.solve_triangular(factor, block.T, upper=False)
            remaining[start : start + len(block)] = 1.0 - alpha * half.square().sum(dim=0)
    last = -torch.log(remaining.clamp(min=0.0, max=1.0))
    ratios = last[alive] / torch.log1p(alpha * candidates.squared_norms[alive])
    return min(1.0, max(0.0, 1.0 - float(ratios.min()))), True


def greedy_guarantee(curvature: float) -> float:
    """(1 - e^-c) / c, in [1 - 1/e, 1]: the share of the best utility that plain greedy is guaranteed to reach.

    Args:
        curvature: Total curvature c, in [0, 1].
    """
    return -math.expm1(-curvature) / curvature if curvature > 0 else 1.0


def epsilon_bounds(rows: torch.Tensor, alpha: float) -> torch.Tensor:
    """alpha^2 sum (g_x . g_y)^2 / (1 + alpha |g_x|^2) of each pick x over the earlier picks y.

    It bounds 1 - exp(epsilon_x), hence |epsilon_x| up to the constant C of the paper.

    Args:
        rows: Gradients in pick order, float64 of shape (k, d).
        alpha: Fisher scale.

    Returns:
        float64 of shape (k,).
    """
    sums = torch.cat([(rows[i : i + 256] @ rows.T).tril_(i - 1).square_().sum(dim=1) for i in range(0, len(rows), 256)])
    return alpha**2 * sums / (1.0 + alpha * rows.square().sum(dim=1))


def epsilon_constant(rows: torch.Tensor, epsilons: Sequence[float], alpha: float) -> float | None:
    """Smallest C with |epsilon_x| <= C times the bound of ``epsilon_bounds`` for every pick; None when there is none.

    Args:
        rows: Gradients in pick order, float64 of shape (k, d).
        epsilons: Their epsilon terms, nats.
        alpha: Fisher scale.
    """
    if len(rows) < 2 or float(len(rows)) ** 2 * rows.shape[1] > EXACT_OPERATIONS:
        return None
    bounds = epsilon_bounds(rows, alpha).cpu()
    sizes = torch.tensor(epsilons, dtype=torch.float64).abs()
    known = bounds > 1e-9  # below, epsilon is rounding
    return float((sizes[known] / bounds[known]).max()) if bool(known.any()) else None


def cosines(rows: torch.Tensor) -> tuple[float | None, float | None]:
    """Mean and largest cosine between two different rows, in [-1, 1]; None for fewer than two non-zero rows.

    Args:
        rows: Gradients of the set, float64 of shape (m, d). For a large set the second is None.
    """
    norms = rows.norm(dim=1, keepdim=True)
    unit = rows[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    m = len(unit)
    if m < 2:
        return None, None
    mean = float((unit.sum(dim=0).square().sum() - m) / (m * (m - 1)))
    if float(m) ** 2 * rows.shape[1] > EXACT_OPERATIONS:
        return mean, None
    largest = -1.0
    for start in range(0, m, 256):
        products = unit[start : start + 256] @ unit.T
        own = torch.arange(len(products), device=products.device)
        products[own, own + start] = -1.0  # no row meets itself
        largest = max(largest, float(products.max()))
    return mean, min(1.0, largest)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation with mean ranks for ties, in [-1, 1]; None when either side is constant.

    Args:
        first: Numbers, at least two for a value.
        second: As many numbers.
    """
    if len(first) < 2:
        return None
    a, b = (_mean_ranks(values) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else None


def _mean_ranks(values: Sequence[float]) -> torch.Tensor:
    numbers = torch.tensor(list(values), dtype=torch.float64)
    _, group, counts = torch.unique(numbers, sorted=True, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).to(torch.float64)
    mean_ranks: torch.Tensor = ends - (counts - 1) / 2
    return mean_ranks[group]
