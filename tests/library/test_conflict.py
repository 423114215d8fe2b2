"""The conflict of a candidate with the mean of the chosen gradients."""

import math

import numpy as np
import pytest
import torch

from spice_select.selection.conflict import conflict


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_cosine_by_its_definition(seed):
    random = np.random.default_rng(seed)
    candidates, chosen = random.standard_normal((40, 7)), random.standard_normal((5, 7))
    mean = chosen.mean(axis=0)
    expected = [
        max(0.0, -sum(a * b for a, b in zip(g, mean, strict=True)) / (math.hypot(*g) * math.hypot(*mean) + 1e-8))
        for g in candidates
    ]
    ours = conflict(
        torch.from_numpy(candidates @ mean),
        torch.from_numpy((candidates**2).sum(axis=1)),
        float(np.linalg.norm(mean)),
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert 0 < sum(value > 0 for value in expected) < 40


def test_opposite_is_one_and_orthogonal_zero_or_agreeing_is_none():
    products = torch.tensor([-6.0, 0.0, 0.0, 6.0], dtype=torch.float64)
    squared_norms = torch.tensor([4.0, 4.0, 0.0, 4.0], dtype=torch.float64)
    values = conflict(products, squared_norms, 3.0).tolist()
    assert values == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-8)
    assert [math.copysign(1.0, value) for value in values] == [1.0] * 4


def test_a_mean_of_zero_has_no_conflict():
    zeros = torch.zeros(3, dtype=torch.float64)
    assert conflict(zeros, zeros + 5.0, 0.0).tolist() == [0.0, 0.0, 0.0]
