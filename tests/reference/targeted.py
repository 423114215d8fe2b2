"""Selection for targets by its definition: dense numpy in float64, every candidate at every pick."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length one; a zero row stays zero.

    Args:
        rows: float64 of shape (m, d).
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def whiten(
    gradients: np.ndarray, targets: Sequence[np.ndarray], blocks: Sequence[int], damping: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Unit length, (C + damping tr(C) / p I)^(-1/2) for each block of p numbers, unit length again.

    Args:
        gradients: float64 of shape (n, d); rows that are zero do not count in C.
        targets: float64 of shape (m, d) each.
        blocks: Numbers in each block; they add up to d.
        damping: Share of the mean eigenvalue that is added to each.
    """
    pool, others = unit(gradients), [unit(rows) for rows in targets]
    alive = pool[np.linalg.norm(pool, axis=1) > 0]
    start = 0
    for size in blocks:
        part = slice(start, start + size)
        start += size
        moment = sum((np.outer(row, row) for row in alive[:, part]), np.zeros((size, size))) / len(alive)
        if np.trace(moment) == 0:
            pool[:, part] = 0
            for rows in others:
                rows[:, part] = 0
            continue
        values, vectors = np.linalg.eigh(moment + damping * np.trace(moment) / size * np.eye(size))
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        pool[:, part] = pool[:, part] @ root
        for rows in others:
            rows[:, part] = rows[:, part] @ root
    return unit(pool), [unit(rows) for rows in others]


def next_task(weights: Sequence[float], counts: Sequence[int]) -> int:
    """The task that the next pick is for: the one furthest below its share; ties to the first.

    Args:
        weights: Weight of each task, > 0.
        counts: Picks made for each.
    """
    shares = np.array(weights, dtype=float) / sum(weights)
    lacking = shares * (sum(counts) + 1) - np.array(counts)
    return int(np.flatnonzero(lacking >= lacking.max() - 1e-9)[0])


def targeted_select(
    gradients: np.ndarray,
    targets: Sequence[np.ndarray],
    *,
    rule: str,
    count: int,
    relevance_weight: float = 1.0,
    information_weight: float = 1.0,
    penalty: float = 0.0,
    alpha: float = 1.0,
    weights: Sequence[float] | None = None,
    owned: np.ndarray | None = None,
    costs: Sequence[int] | None = None,
    charges: Sequence[float] | None = None,
) -> tuple[list[int], list[int], list[float]]:
    """Rules A (``matching``) and B (``relevance``) by their definitions.

    Args:
        gradients: float64 of shape (n, d), taken as they are.
        targets: Rows of each task, float64 of shape (m, d).
        rule: ``matching`` or ``relevance``.
        count: Number of picks.
        relevance_weight: w.
        information_weight: eta.
        penalty: lambda.
        alpha: Fisher scale.
        weights: Weight of each task; None for equal ones.
        owned: Gradients already in the set, for the gain alone.
        costs: What each score is divided by; None for no division.
        charges: What each row pays; None for nothing.

    Returns:
        Picks, the task of each, and the scores. Scores within 1e-11 of the best are a tie and go to the lower row.
    """
    n, d = gradients.shape
    means = [rows.mean(axis=0) for rows in targets]
    lengths = np.linalg.norm(gradients, axis=1)
    sums, counts = [np.zeros(d) for _ in means], [0 for _ in means]
    fisher = np.eye(d)
    for row in [] if owned is None else owned:
        fisher = fisher + alpha * np.outer(row, row)
    chosen: list[int] = []
    tasks: list[int] = []
    scores: list[float] = []
    for _ in range(count):
        task = next_task([1.0] * len(means) if weights is None else weights, counts)
        mean = means[task]
        wanted = (counts[task] + 1) * mean - sums[task] if rule == "matching" else mean
        inverse = np.linalg.inv(fisher)
        score = np.full(n, -np.inf)
        for row in (row for row in range(n) if row not in chosen):
            g = gradients[row]
            relevance = g @ wanted / np.linalg.norm(mean)
            gain = np.log1p(alpha * (g @ inverse @ g))
            conflict = max(0.0, -(g @ mean) / (lengths[row] * np.linalg.norm(mean) + 1e-8))
            score[row] = relevance_weight * relevance + information_weight * gain - penalty * conflict
            score[row] -= 0.0 if charges is None else charges[row]
            if costs is not None:
                score[row] /= costs[row]
        best = score.max()
        row = int(np.flatnonzero(score >= best - 1e-11 * max(1.0, abs(best)))[0])
        chosen.append(row)
        tasks.append(task)
        scores.append(float(score[row]))
        fisher = fisher + alpha * np.outer(gradients[row], gradients[row])
        sums[task] += gradients[row]
        counts[task] += 1
    return chosen, tasks, scores


def charges(gradients: np.ndarray, protect: Sequence[np.ndarray], weight: float) -> list[float]:
    """What each row pays for pointing against the mean of protected sets.

    Args:
        gradients: float64 of shape (n, d).
        protect: Rows of each set, float64 of shape (m, d).
        weight: Weight of the charge.
    """
    paid = []
    for g in gradients:
        total = 0.0
        for rows in protect:
            mean = rows.mean(axis=0)
            total += max(0.0, -float(g @ mean) / (np.linalg.norm(g) * np.linalg.norm(mean) + 1e-8))
        paid.append(weight * total)
    return paid


def in_span(gradients: np.ndarray, targets: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The part of every row that lies in the span of the target rows, still d numbers long.

    Args:
        gradients: float64 of shape (n, d).
        targets: Rows of each task, float64 of shape (m, d).
    """
    projector = np.linalg.pinv(np.concatenate(targets), rcond=1e-10) @ np.concatenate(targets)
    return gradients @ projector, [rows @ projector for rows in targets]


def relevance_objective(
    gradients: np.ndarray,
    targets: Sequence[np.ndarray],
    picks: Sequence[int],
    tasks: Sequence[int],
    *,
    relevance_weight: float,
    information_weight: float,
    penalty: float,
    alpha: float,
    charges: Sequence[float] | None = None,
) -> float:
    """What rule B maximises: the modular terms of each pick for its task and eta times the log-determinant.

    Args:
        gradients: float64 of shape (n, d).
        targets: Rows of each task.
        picks: Rows of the set.
        tasks: The task that each serves.
        relevance_weight: w.
        information_weight: eta.
        penalty: lambda.
        alpha: Fisher scale.
        charges: What each row pays; None for nothing.
    """
    rows = gradients[list(picks)]
    total = information_weight * np.linalg.slogdet(np.eye(rows.shape[1]) + alpha * rows.T @ rows)[1]
    for g, task in zip(rows, tasks, strict=True):
        mean = targets[task].mean(axis=0)
        length = np.linalg.norm(mean)
        total += relevance_weight * float(g @ mean) / length
        total -= penalty * max(0.0, -float(g @ mean) / (np.linalg.norm(g) * length + 1e-8))
    total -= 0.0 if charges is None else sum(charges[row] for row in picks)
    return float(total)
