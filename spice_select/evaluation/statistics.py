"""How sure a difference is: paired over held-out rows and seeds, with an interval that knows how few seeds there are.

Losses of one arm fill a table, one line for each seed and one column for each held-out row. The difference of two
arms is paired cell by cell, so that hard rows are hard for both. Seeds and rows are both samples of what could have
been: D_si = mean + a_s + b_i + e_si, and the variance of the mean is (MS_a + MS_b - MS_e) / (S N) by the two-way
analysis of variance, with Satterthwaite's degrees of freedom. A bootstrap over three seeds would promise 95 % and hold
far less, because three numbers say little about their own spread; Student's t says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import t as student


@dataclass(frozen=True)
class Interval:
    """A mean and where it lies.

    Attributes:
        mean: The mean, nats per token.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Its level.
    """

    mean: float
    low: float
    high: float
    confidence: float

    @property
    def half_width(self) -> float:
        """Half the width: the smallest difference that would have been told from none."""
        return (self.high - self.low) / 2

    @property
    def sign(self) -> int:
        """1 if all of it is above zero, -1 if all of it is below, else 0."""
        return (self.low > 0) - (self.high < 0)


def interval(values: torch.Tensor, confidence: float) -> Interval:
    """Interval of the mean of a table whose lines and columns are both drawn at random.

    Args:
        values: float64 of shape (S, N), at least two of each, finite.
        confidence: Level in (0, 1).
    """
    lines, columns = values.shape
    mean = values.mean()
    by_line, by_column = values.mean(dim=1), values.mean(dim=0)
    rest = values - by_line.unsqueeze(1) - by_column.unsqueeze(0) + mean
    square_lines = columns * float(by_line.var())
    square_columns = lines * float(by_column.var())
    square_rest = float((rest**2).sum()) / ((lines - 1) * (columns - 1))
    sum_of_squares = square_lines + square_columns - square_rest
    # By chance the rest can be the largest; neither lines nor columns alone can vary less than they are seen to.
    sum_of_squares = max(sum_of_squares, square_lines, square_columns)
    half = 0.0
    if sum_of_squares > 0:
        freedom = sum_of_squares**2 / (
            square_lines**2 / (lines - 1)
            + square_columns**2 / (columns - 1)
            + square_rest**2 / ((lines - 1) * (columns - 1))
        )
        freedom = max(1.0, freedom)
        half = float(student.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(sum_of_squares / (lines * columns))
    return Interval(float(mean), float(mean) - half, float(mean) + half, confidence)


def advantage(of: torch.Tensor, over: torch.Tensor, confidence: float) -> Interval:
    """How much lower the losses of one arm are than those of another; above zero where the first is better.

    Args:
        of: Losses of the first, float64 of shape (S, N), nats.
        over: Losses of the second, of the same shape and for the same seeds and rows.
        confidence: Level in (0, 1).
    """
    return interval(over - of, confidence)


def advantage_by_group(
    of: torch.Tensor, over: torch.Tensor, groups: Sequence[str], confidence: float
) -> dict[str, Interval]:
    """``advantage`` within each group of held-out rows, at a level that holds for all groups together (Bonferroni).

    Args:
        of: Losses of the first arm, float64 of shape (S, N), nats.
        over: Losses of the second.
        groups: Group of each held-out row; groups of a single row are left out.
        confidence: Level for all groups together.
    """
    places = rows_by_group(groups)
    each = 1 - (1 - confidence) / max(1, len(places))
    return {name: advantage(of[:, rows], over[:, rows], each) for name, rows in places.items() if len(rows) > 1}


def loss_by_group(losses: torch.Tensor, groups: Sequence[str]) -> Mapping[str, float]:
    """Mean loss of each group, nats.

    Args:
        losses: float64 of shape (S, N).
        groups: Group of each held-out row.
    """
    return {name: float(losses[:, rows].mean()) for name, rows in rows_by_group(groups).items()}


def rows_by_group(groups: Sequence[str]) -> dict[str, list[int]]:
    """Rows of each group, groups by name."""
    places: dict[str, list[int]] = {name: [] for name in sorted(set(groups))}
    for row, name in enumerate(groups):
        places[name].append(row)
    return places
