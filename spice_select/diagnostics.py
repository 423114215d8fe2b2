"""What can be proven or measured about a chosen set: utility, certificate, curvature, epsilon terms, correlations.

U(S) = logdet(I + alpha F_S) is monotone and submodular, so for every set S and every set B of k samples
U(B) <= U(S) + sum of the k largest Delta_x(S) over the pool, however S was chosen. The functions here use the smaller
of the two spaces: d x d (features) or m x m (samples).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from spice_select.candidates import Candidates
from spice_select.config import SelectionConfig
from spice_select.fisher import capacitance, stable_factor

EXACT_CURVATURE_OPERATIONS = 2e12
"""Multiply-adds up to which the curvature is computed exactly (about a minute on two cores)."""


@dataclass(frozen=True)
class Certificate:
    """A proof of how good a set is, valid for any set whatever chose it.

    Attributes:
        utility: U(S), nats.
        upper_bound: No set of the same number of samples has a larger U, nats; None for a token budget.
        ratio: utility / upper_bound, in (0, 1]; 1.0 when both are zero.
        bound: Which proof gave the upper bound: ``marginal`` (U(S) + the k largest marginal gains over S), ``base``
            (the k largest base gains) or ``trace`` (concavity of logdet: r log(1 + alpha T / r) with r = min(k, d) and
            T the k largest squared norms).
        curvature: Total curvature c = 1 - min_x Delta_x(D without x) / Delta_x(empty), in [0, 1].
        curvature_exact: False when the pool was too large for the exact value and the curvature is an upper bound.
        greedy_bound: (1 - e^-c) / c: what plain greedy (lambda = 0) is guaranteed to reach of the best utility.
        spearman_conflict_gain: Rank correlation of the picks' conflicts and gains; None when either is constant.
        spearman_conflict_epsilon: Rank correlation of the picks' conflicts and |epsilon|; None likewise.
        mean_cosine: Mean cosine between two different samples of the set; None for fewer than two non-zero ones.
        max_conflict: Largest conflict among the picks.
    """

    utility: float
    upper_bound: float | None
    ratio: float | None
    bound: Literal["marginal", "base", "trace"] | None
    curvature: float
    curvature_exact: bool
    greedy_bound: float
    spearman_conflict_gain: float | None
    spearman_conflict_epsilon: float | None
    mean_cosine: float | None
    max_conflict: float


def certify(
    pool: Candidates,
    indices: torch.Tensor,
    config: SelectionConfig,
    *,
    utility: float,
    gains: Sequence[float],
    epsilons: Sequence[float],
    conflicts: Sequence[float],
) -> Certificate:
    """Prove how far from the best set of the same size the chosen one can be, and describe it.

    Args:
        pool: The pool, D.
        indices: Chosen rows, S, in pick order, int64 of shape (k,).
        config: Settings of the run; alpha and the kind of budget are used.
        utility: U(S), nats.
        gains: Gain of each pick, nats.
        epsilons: Epsilon of each pick, nats.
        conflicts: Conflict of each pick.
    """
    rows = pool.take(indices)
    upper, bound = None, None
    if config.budget.tokens is None:
        upper, bound = upper_bound(pool, indices, rows, config.alpha, utility)
    curvature, exact = total_curvature(pool, config.alpha)
    return Certificate(
        utility=utility,
        upper_bound=upper,
        ratio=None if upper is None else (min(1.0, utility / upper) if upper > 0 else 1.0),
        bound=bound,
        curvature=curvature,
        curvature_exact=exact,
        greedy_bound=greedy_guarantee(curvature),
        spearman_conflict_gain=spearman(conflicts, gains),
        spearman_conflict_epsilon=spearman(conflicts, [abs(epsilon) for epsilon in epsilons]),
        mean_cosine=mean_cosine(rows),
        max_conflict=max(conflicts, default=0.0),
    )


def greedy_guarantee(curvature: float) -> float:
    """(1 - e^-c) / c, in [1 - 1/e, 1]: the share of the best utility that plain greedy is guaranteed to reach.

    Args:
        curvature: Total curvature c, in [0, 1].
    """
    return -math.expm1(-curvature) / curvature if curvature > 0 else 1.0


def marginal_gains(pool: Candidates, rows: torch.Tensor, alpha: float) -> torch.Tensor | None:
    """Delta_x(S) = log(1 + alpha g_x^T (I + alpha F_S)^-1 g_x) of every sample of the pool, nats.

    Args:
        pool: The pool.
        rows: Gradients of S, float64 of shape (m, d).
        alpha: Fisher scale.

    Returns:
        float64 of shape (n,), or None when the gradients are too unequal in length for a trustworthy answer.
    """
    forms = pool.squared_norms.clone()
    if len(rows) == 0:
        return torch.log1p(alpha * forms)
    factor = stable_factor(capacitance(rows, alpha))
    if factor is None:
        return None
    in_samples = len(rows) <= pool.dimension
    for start, block in pool.blocks():
        part = slice(start, start + len(block))
        if in_samples:
            inner = torch.linalg.solve_triangular(factor, rows @ block.T, upper=False)
            forms[part] -= alpha * inner.square().sum(dim=0)
        else:
            forms[part] = torch.linalg.solve_triangular(factor, block.T, upper=False).square().sum(dim=0)
    return torch.log1p(alpha * forms.clamp_(min=0.0))


def upper_bound(
    pool: Candidates, indices: torch.Tensor, rows: torch.Tensor, alpha: float, utility: float
) -> tuple[float, Literal["marginal", "base", "trace"]]:
    """The smallest of three proven bounds on U over all sets of len(indices) samples.

    Args:
        pool: The pool.
        indices: Chosen rows, int64 of shape (k,).
        rows: Their gradients, float64 of shape (k, d).
        alpha: Fisher scale.
        utility: U of the chosen rows, nats.

    Returns:
        The bound (nats) and the proof it comes from.
    """
    k = len(indices)
    if k == 0:
        return 0.0, "base"
    norms = pool.squared_norms.topk(k).values
    rank = min(k, pool.dimension)
    bounds: dict[Literal["marginal", "base", "trace"], float] = {
        "base": float(torch.log1p(alpha * norms).sum()),
        "trace": rank * math.log1p(alpha * float(norms.sum()) / rank),
    }
    gains = marginal_gains(pool, rows, alpha)
    if gains is not None:
        gains[indices.to(pool.device)] = 0.0  # a member adds nothing to a set that holds it
        bounds["marginal"] = utility + float(gains.topk(k).values.sum())
    name = min(bounds, key=lambda bound: bounds[bound])
    return max(bounds[name], utility), name


def total_curvature(pool: Candidates, alpha: float) -> tuple[float, bool]:
    """Total curvature c = 1 - min_x Delta_x(D without x) / Delta_x(empty), and whether it is exact.

    With the leverage h = alpha g^T (I + alpha F_D)^-1 g, Delta_x(D without x) = -log(1 - h). Samples with a zero
    gradient have no part in it. A pool whose full Fisher would cost more than ``EXACT_CURVATURE_OPERATIONS``, or whose
    gradients are too unequal in length for float64, gets the bound c <= 1.

    Args:
        pool: The pool, D.
        alpha: Fisher scale.

    Returns:
        c in [0, 1], and True when it is exact.
    """
    n, d = pool.size, pool.dimension
    if float(min(n, d)) * min(n, d) * max(n, d) > EXACT_CURVATURE_OPERATIONS:
        return 1.0, False
    alive = pool.squared_norms > 0
    if not bool(alive.any()):
        return 0.0, True
    if n <= d:
        factor = stable_factor(capacitance(torch.cat([block for _, block in pool.blocks()]), alpha))
        if factor is None:
            return 1.0, False
        last = -torch.log(torch.cholesky_inverse(factor).diagonal().clamp(max=1.0))
    else:
        full = torch.eye(d, dtype=torch.float64, device=pool.device)
        for _, block in pool.blocks():
            full.addmm_(block.T, block, alpha=alpha)
        factor = stable_factor(full)
        if factor is None:
            return 1.0, False
        last = torch.empty(n, dtype=torch.float64, device=pool.device)
        for start, block in pool.blocks():
            half = torch.linalg.solve_triangular(factor, block.T, upper=False)
            last[start : start + len(block)] = -torch.log1p(-(alpha * half.square().sum(dim=0)).clamp(max=1.0))
    ratios = last[alive] / torch.log1p(alpha * pool.squared_norms[alive])
    return min(1.0, max(0.0, 1.0 - float(ratios.min()))), True


def mean_cosine(rows: torch.Tensor) -> float | None:
    """Mean cosine between two different rows, in [-1, 1]; None for fewer than two non-zero rows.

    Args:
        rows: Gradients of the set, float64 of shape (m, d).
    """
    norms = rows.norm(dim=1, keepdim=True)
    unit = rows[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    m = len(unit)
    if m < 2:
        return None
    return float((unit.sum(dim=0).square().sum() - m) / (m * (m - 1)))


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
