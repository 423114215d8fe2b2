"""The targeted rules in the space of inner products, float64: a plain twin of what the library selects with.

The inverse square root of C = mean of g g^T over the pool, damped by 0.1 tr(C)/p, whitens every layer's block; rows
have unit length before and after. With m_a the mean of task a's target rows, the next pick serves the next task:

    A   g . ((t_a + 1) m_a - sum of the picks for a) / |m_a|  +  eta log(1 + g^T (I + F_S)^-1 g)
    B   g . m_a / |m_a|                                       +  eta log(1 + g^T (I + F_S)^-1 g)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Rule = Literal["matching", "relevance"]


def whitened(
    pool: np.ndarray, targets: Sequence[np.ndarray], block_sizes: Sequence[int], damping: float = 0.1
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows whitened by the pool's second moments and scaled to unit length.

    Args:
        pool: Shape (n, d), rows of unit length.
        targets: Each of shape (m, d).
        block_sizes: Numbers of each layer, d in all.
        damping: Share of the mean eigenvalue that is added to each.
    """
    alive = pool[np.linalg.norm(pool, axis=1) > 0].astype(np.float64)
    out = [np.empty(rows.shape) for rows in (pool, *targets)]
    start = 0
    for size in block_sizes:
        part = slice(start, start + size)
        moment = alive[:, part].T @ alive[:, part] / len(alive)
        values, vectors = np.linalg.eigh(moment + damping * np.trace(moment) / size * np.eye(size))
        root = (vectors / np.sqrt(values)) @ vectors.T
        for rows, result in zip((pool, *targets), out, strict=True):
            result[:, part] = rows[:, part] @ root
        start += size
    scaled = [_unit(rows) for rows in out]
    return scaled[0], scaled[1:]


def select_for_targets(
    pool: np.ndarray, targets: Sequence[np.ndarray], count: int, rule: Rule, information_weight: float
) -> list[int]:
    """Picks in order, ties to the lower row.

    Args:
        pool: Shape (n, d), rows of unit length or zero; zero rows are never picked.
        targets: Target rows of each task, each of shape (m, d).
        count: Picks, k.
        rule: Which rule.
        information_weight: Weight of the gain, eta.
    """
    pool = pool.astype(np.float64)
    means = [rows.astype(np.float64).mean(axis=0) for rows in targets]
    relevance = [pool @ mean / np.linalg.norm(mean) for mean in means]
    lengths = [np.linalg.norm(mean) for mean in means]
    sums = np.zeros((len(means), len(pool)))
    taken = [0] * len(means)
    forms = np.einsum("ij,ij->i", pool, pool)
    is_open = forms > 0
    directions = np.empty((count, len(pool)))
    picks: list[int] = []
    for turn in range(min(count, int(is_open.sum()))):
        task = turn % len(means)
        term = relevance[task]
        if rule == "matching":
            term = (taken[task] + 1) * term - sums[task] / lengths[task]
        scores = term + information_weight * np.log1p(np.maximum(forms, 0))
        row = int(np.argmax(np.where(is_open, scores, -np.inf)))
        products = pool @ pool[row]
        direction = (products - directions[:turn].T @ directions[:turn, row]) / np.sqrt(1 + max(forms[row], 0))
        directions[turn] = direction
        forms = forms - direction**2
        sums[task] += products
        taken[task] += 1
        is_open[row] = False
        picks.append(row)
    return picks


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
