"""Intervals: the textbook's numbers, the promised coverage with three seeds, a bootstrap's width with many."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import t as student

from spice_select.evaluation.statistics import Interval, advantage, advantage_by_group, interval, loss_by_group
from tests.reference.evaluation import bootstrap_of_seeds_and_rows, mean_squares


def table(lines: int, columns: int, draw: torch.Generator, *, seeds: float, rows: float, rest: float) -> torch.Tensor:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return seeds * normal(lines, 1) + rows * normal(1, columns) + rest * normal(lines, columns)


def test_an_interval_is_that_of_the_two_way_analysis_of_variance(seed: int) -> None:
    values = 0.3 + table(4, 30, torch.Generator().manual_seed(seed), seeds=0.5, rows=1.0, rest=0.5)
    found = interval(values, 0.95)
    lines, columns, rest = mean_squares(values)
    squares = lines + columns - rest
    freedom = squares**2 / (lines**2 / 3 + columns**2 / 29 + rest**2 / 87)
    half = student.ppf(0.975, freedom) * math.sqrt(squares / 120)
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-12)


def test_with_many_seeds_it_is_as_wide_as_the_hierarchical_bootstrap(seed: int) -> None:
    values = table(40, 60, torch.Generator().manual_seed(seed), seeds=1.0, rows=1.0, rest=0.5)
    low, high = bootstrap_of_seeds_and_rows(values, 3000, seed)
    assert interval(values, 0.95).half_width == pytest.approx((high - low) / 2, rel=0.12)


@pytest.mark.parametrize(
    ("seeds", "rows", "bootstrap"), [(0.3, 1.0, False), (1.0, 1.0, True), (1.0, 0.0, True), (0.0, 1.0, False)]
)
def test_three_seeds_hold_the_promised_coverage_where_a_bootstrap_does_not(
    seed: int, seeds: float, rows: float, bootstrap: bool
) -> None:
    draw = torch.Generator().manual_seed(seed)
    held = drawn_again = 0
    for turn in range(300):
        values = table(3, 40, draw, seeds=seeds, rows=rows, rest=0.5)
        found = interval(values, 0.95)
        held += found.low <= 0 <= found.high
        low, high = bootstrap_of_seeds_and_rows(values, 100, turn) if bootstrap else (0.0, 0.0)
        drawn_again += low <= 0 <= high
    # 95 % of 300 is 285, give or take 4
    assert held >= 270
    assert not bootstrap or drawn_again < 255


def test_pairing_takes_out_what_makes_rows_hard(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    hard = 3.0 * torch.rand(1, 200, generator=draw, dtype=torch.float64)
    one = hard + 0.02 * torch.randn(3, 200, generator=draw, dtype=torch.float64)
    other = hard + 0.05 + 0.02 * torch.randn(3, 200, generator=draw, dtype=torch.float64)
    found = advantage(one, other, 0.95)
    assert 0.04 < found.low < found.mean < found.high < 0.06
    assert found.sign == 1
    assert advantage(other, one, 0.95).sign == -1
    assert advantage(one, one, 0.95) == Interval(0.0, 0.0, 0.0, 0.95)
    assert advantage(one, one, 0.95).sign == 0


def test_groups_share_the_level_of_confidence(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    one, other = torch.rand(2, 3, 40, generator=draw, dtype=torch.float64)
    groups = ["b"] * 15 + ["a"] * 24 + ["single"]
    found = advantage_by_group(one, other, groups, 0.94)
    assert list(found) == ["a", "b"]
    assert found["a"] == advantage(one[:, 15:39], other[:, 15:39], 1 - 0.06 / 3)
    assert loss_by_group(one, groups)["b"] == pytest.approx(float(one[:, :15].mean()))
