"""The slow, obvious twin of every fast path: loops, dense matrices, float64. The oracle of the tests.

Nothing here imports from the package under test except plain types.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
import torch


def one_at_a_time_gradients(
    model: Any, examples: Sequence[Any], weights: Sequence[torch.Tensor], *, mean: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact gradient and loss of each example by plain autograd: one forward and one backward pass each.

    Args:
        model: A causal language model in evaluation mode; all its weights become trainable.
        examples: Objects with ``input_ids`` and ``labels``.
        weights: Which of its weights to measure, in the order of the result.
        mean: Mean over the learned tokens, or their sum.

    Returns:
        Gradients of shape (n, d) and losses of shape (n,), in the type of the model.
    """
    model.requires_grad_(True)
    rows, losses = [], []
    for example in examples:
        model.zero_grad(set_to_none=True)
        logits = model(input_ids=torch.tensor([example.input_ids]), use_cache=False).logits[0]
        total = logits.sum() * 0.0
        count = 0
        for position in range(1, len(example.labels)):
            label = example.labels[position]
            if label == -100:
                continue
            scores = logits[position - 1]
            total = total - (scores[label] - torch.log(torch.exp(scores - scores.max()).sum()) - scores.max())
            count += 1
        loss = total / count if mean and count else total
        loss.backward()
        rows.append(
            torch.cat([torch.zeros(w.numel(), dtype=w.dtype) if w.grad is None else w.grad.flatten() for w in weights])
        )
        losses.append(loss.detach())
    model.zero_grad(set_to_none=True)
    return torch.stack(rows), torch.stack(losses)


def dense_select(
    gradients: np.ndarray,
    *,
    alpha: float,
    penalty: float,
    count: int,
    stop_ratio: float | None = None,
    costs: Sequence[int] | None = None,
    tokens: int | None = None,
    per_token: bool = False,
    tie: float = 1e-11,
) -> tuple[list[int], list[float], list[float]]:
    """SPICE by its definition: every candidate, every step, one log-determinant of the d x d matrix each, in float64.

    Args:
        gradients: float64 of shape (n, d).
        alpha: Fisher scale.
        penalty: Weight of the conflict, lambda.
        count: Most picks.
        stop_ratio: Early stop, omega.
        costs: Tokens of each sample, for a token budget.
        tokens: The token budget.
        per_token: Compare scores per token.
        tie: Share of its terms within which of the best a score ties.

    Returns:
        Picks, their gains and their conflicts. Scores within ``tie`` of the best are a tie and go to the lower row.
    """
    n, d = gradients.shape
    fisher = np.eye(d)
    chosen: list[int] = []
    gains: list[float] = []
    conflicts: list[float] = []
    left = math.inf if tokens is None else tokens
    while len(chosen) < count:
        before = np.linalg.slogdet(fisher)[1]
        options = []
        for row in range(n):
            if row in chosen or (costs is not None and tokens is not None and costs[row] > left):
                continue
            g = gradients[row]
            gain = np.linalg.slogdet(fisher + alpha * np.outer(g, g))[1] - before
            conflict = 0.0
            if chosen:
                mean = np.mean([gradients[other] for other in chosen], axis=0)
                conflict = max(0.0, -float(g @ mean) / (np.linalg.norm(g) * np.linalg.norm(mean) + 1e-8))
            score = gain - penalty * conflict
            options.append((score / costs[row] if per_token and costs is not None else score, row, gain, conflict))
        if not options:
            break
        best, row, gain, conflict = max(options, key=lambda option: option[0])
        size = (
            max(1.0, abs(best))
            if tie <= 1e-11
            else (gain + penalty * conflict) / (costs[row] if per_token and costs is not None else 1)
        )
        _, row, gain, conflict = min(
            (option for option in options if option[0] >= best - tie * size), key=lambda option: option[1]
        )
        if stop_ratio is not None and gains and gain <= stop_ratio * gains[0]:
            break
        chosen.append(row)
        gains.append(float(gain))
        conflicts.append(conflict)
        fisher = fisher + alpha * np.outer(gradients[row], gradients[row])
        if costs is not None:
            left -= costs[row]
    return chosen, gains, conflicts


def utility(gradients: np.ndarray, alpha: float) -> float:
    """U(S) = logdet(I + alpha sum g g^T), nats, by its definition.

    Args:
        gradients: S, float64 of shape (k, d).
        alpha: Fisher scale.
    """
    return float(np.linalg.slogdet(np.eye(gradients.shape[1]) + alpha * gradients.T @ gradients)[1])


def conditioned_select(
    gradients: np.ndarray,
    given: np.ndarray,
    *,
    alpha: float,
    penalty: float,
    count: int,
    forced: Sequence[int] = (),
    forbidden: Sequence[int] = (),
) -> list[int]:
    """SPICE on top of samples that are owned already: they are in the Fisher matrix and in the mean from the start.

    Args:
        gradients: float64 of shape (n, d).
        given: Gradients already owned, float64 of shape (m, d).
        alpha: Fisher scale.
        penalty: Weight of the conflict, lambda.
        count: Picks.
        forced: Rows that are chosen before any other.
        forbidden: Rows that are never chosen.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        owned = np.concatenate([given, gradients[chosen]])
        waiting = [row for row in forced if row not in chosen]
        options = []
        for row in waiting or range(len(gradients)):
            if row in chosen or row in forbidden:
                continue
            g = gradients[row]
            gain = utility(np.concatenate([owned, g[None]]), alpha) - utility(owned, alpha)
            mean = owned.mean(axis=0) if len(owned) else np.zeros_like(g)
            against = max(0.0, -float(g @ mean) / (np.linalg.norm(g) * np.linalg.norm(mean) + 1e-8))
            options.append((gain - penalty * against, row))
        best = max(score for score, _ in options)
        chosen.append(min(row for score, row in options if score >= best - 1e-11))
    return chosen


def precise_gains(gradients: np.ndarray, order: Sequence[int], alpha: float, digits: int = 80) -> list[float]:
    """Marginal gain of each pick in a given order, by log-determinants in arithmetic of so many decimal digits.

    Args:
        gradients: float64 of shape (n, d), taken as exact numbers.
        order: Rows in pick order.
        alpha: Fisher scale, taken as an exact number.
        digits: Decimal digits.
    """
    with mpmath.workdps(digits):
        fisher = mpmath.eye(gradients.shape[1])
        before, gains = mpmath.mpf(0), []
        for row in order:
            g = mpmath.matrix([mpmath.mpf(float(value)) for value in gradients[row]])
            fisher = fisher + mpmath.mpf(alpha) * (g * g.T)
            after = mpmath.log(mpmath.det(fisher))
            gains.append(float(after - before))
            before = after
    return gains


def precise_select(gradients: np.ndarray, alpha: float, penalty: float, count: int, digits: int = 80) -> list[int]:
    """Exact picks of ``dense_select`` in arithmetic of so many decimal digits; exact ties go to the lower row.

    Args:
        gradients: float64 of shape (n, d), taken as exact numbers.
        alpha: Fisher scale, taken as an exact number.
        penalty: Weight of the conflict, lambda.
        count: Number of picks.
        digits: Decimal digits.
    """
    with mpmath.workdps(digits):
        n, d = gradients.shape
        rows = [mpmath.matrix([mpmath.mpf(float(value)) for value in row]) for row in gradients]
        inverse, total, chosen = mpmath.eye(d), mpmath.zeros(d, 1), []
        for _ in range(count):
            best, best_row = mpmath.mpf("-inf"), -1
            for row in range(n):
                if row in chosen:
                    continue
                g = rows[row]
                score = mpmath.log(1 + alpha * (g.T * inverse * g)[0])
                if chosen:
                    mean = total / len(chosen)
                    cosine = (g.T * mean)[0] / (mpmath.norm(g) * mpmath.norm(mean) + mpmath.mpf(1e-8))
                    score -= penalty * max(mpmath.mpf(0), -cosine)
                if score > best + mpmath.mpf(10) ** (-digits // 2):
                    best, best_row = score, row
            g = rows[best_row]
            u = inverse * g
            inverse = inverse - (alpha / (1 + alpha * (g.T * u)[0])) * (u * u.T)
            total = total + g
            chosen.append(best_row)
    return chosen


def surrogate_select(
    gradients: np.ndarray,
    *,
    information: str,
    alpha: float,
    penalty: float,
    count: int,
    stop_ratio: float | None,
) -> tuple[list[int], list[float]]:
    """The authors' greedy under their diagonal or scalar form, every candidate at every step, in float64.

    Args:
        gradients: float64 of shape (n, d).
        information: ``diagonal`` or ``scalar``.
        alpha: Fisher scale.
        penalty: Weight of the conflict, lambda.
        count: Most picks.
        stop_ratio: Early stop, omega.

    Returns:
        Picks and their gains; scores within 1e-12 of the best are a tie and go to the lower row.
    """
    denominator = np.ones(gradients.shape[1])
    chosen: list[int] = []
    gains: list[float] = []
    norms = np.sqrt((gradients**2).sum(axis=1))
    while len(chosen) < count:
        scale = 1 + alpha if information == "scalar" else denominator
        form = (gradients**2 / scale).sum(axis=1)
        gain = np.log1p(alpha * form)
        score = gain.copy()
        if chosen:
            mean = gradients[chosen].mean(axis=0)
            score -= penalty * np.maximum(0.0, -(gradients @ mean) / (norms * np.linalg.norm(mean) + 1e-8))
        score[chosen] = -np.inf
        row = int(np.flatnonzero(score >= score.max() - 1e-12 * max(1.0, abs(score.max())))[0])
        if stop_ratio is not None and gains and gain[row] <= stop_ratio * gains[0]:
            break
        chosen.append(row)
        gains.append(float(gain[row]))
        denominator = denominator + alpha * (np.abs(gradients[row]) * gradients[row]) ** 2
    return chosen, gains


def matching_select(
    gradients: np.ndarray,
    *,
    alpha: float,
    penalty: float,
    weight: float | None,
    count: int,
    owned: np.ndarray | None = None,
    charges: Sequence[float] | None = None,
) -> tuple[list[int], list[float], list[float]]:
    """The greedy with the matching term by its definition: w starts at the mean, after each pick w += m - g.

    Args:
        gradients: float64 of shape (n, d).
        alpha: Fisher scale.
        penalty: Weight of the conflict, lambda.
        weight: Weight of g . w / |m|; None for herding, which compares g . w alone.
        count: Number of picks.
        owned: Gradients already in the set, shape (m, d), for gain and conflict.
        charges: What each row pays; None for nothing.

    Returns:
        Picks, gains and scores; ties to the lower row.
    """
    n, d = gradients.shape
    mean = gradients.mean(axis=0)
    length = np.linalg.norm(mean)
    cancels = length <= 1e-12 * np.linalg.norm(gradients, axis=1).mean()
    w = mean.copy()
    members = [] if owned is None else list(owned)
    fisher = np.eye(d) + sum((alpha * np.outer(g, g) for g in members), np.zeros((d, d)))
    chosen: list[int] = []
    gains: list[float] = []
    scores: list[float] = []
    for _ in range(count):
        before = np.linalg.slogdet(fisher)[1]
        options = []
        for row in (row for row in range(n) if row not in chosen):
            g = gradients[row]
            gain = np.linalg.slogdet(fisher + alpha * np.outer(g, g))[1] - before
            conflict = 0.0
            if members:
                center = np.mean(members, axis=0)
                conflict = max(0.0, -float(g @ center) / (np.linalg.norm(g) * np.linalg.norm(center) + 1e-8))
            lacking = 0.0 if cancels else float(g @ w)
            score = lacking if weight is None else gain - penalty * conflict
            if weight is not None and not cancels:
                score += weight * lacking / length
            score -= 0.0 if charges is None else charges[row]
            options.append((score, row, gain))
        best = max(score for score, _, _ in options)
        score, row, gain = min(
            (option for option in options if option[0] >= best - 1e-11 * max(1.0, abs(best))), key=lambda o: o[1]
        )
        chosen.append(row)
        gains.append(float(gain))
        scores.append(float(score))
        members.append(gradients[row])
        fisher = fisher + alpha * np.outer(gradients[row], gradients[row])
        w += mean - gradients[row]
    return chosen, gains, scores
