"""The authors' diagonal and scalar forms against their definition, one candidate after the other."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.config import Budget, SelectionConfig
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.select import select
from spice_select.selection.surrogates import surrogate
from tests.fixtures.examples import examples
from tests.reference.selection import surrogate_select


@settings(max_examples=examples(80))
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    d=st.integers(1, 10),
    alpha=st.sampled_from([1e-3, 0.2, 1.0, 30.0]),
    penalty=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
    information=st.sampled_from(["diagonal", "scalar"]),
    stop_ratio=st.sampled_from([None, 0.5, 0.9]),
)
def test_equals_the_definition_pick_for_pick(seed, n, d, alpha, penalty, information, stop_ratio):
    random = np.random.default_rng(seed)
    gradients = random.standard_normal((n, d)) * np.exp(random.standard_normal((n, 1)))
    gradients[random.integers(n)] = gradients[random.integers(n)]
    config = SelectionConfig(
        budget=Budget(count=n),
        information=information,
        alpha=alpha,
        conflict_penalty=penalty,
        stop_ratio=stop_ratio,
    )
    selection = select(gradients, config)
    picks, gains = surrogate_select(
        gradients, information=information, alpha=alpha, penalty=penalty, count=n, stop_ratio=stop_ratio
    )
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-10)


@pytest.mark.parametrize("information", ["diagonal", "scalar"])
def test_a_large_pool_is_not_gone_through_at_every_pick(information):
    random = np.random.default_rng(0)
    gradients = random.standard_normal((4000, 24)) * np.exp(random.standard_normal((4000, 1)))
    config = SelectionConfig(budget=Budget(count=150), information=information, conflict_penalty=0.1)
    selection = select(gradients, config)
    picks, _ = surrogate_select(gradients, information=information, alpha=1.0, penalty=0.1, count=150, stop_ratio=None)
    assert selection.indices == picks
    assert selection.refreshed < 0.1 * 4000 * 150


def test_diagonal_gains_only_fall():
    gradients = torch.from_numpy(np.random.default_rng(1).standard_normal((12, 5)))
    information = surrogate(GradientMatrix(gradients), "diagonal", 0.7)
    everything = torch.arange(12)
    before = information.gains(everything)
    for row in range(12):
        information.add(gradients[row])
        after = information.gains(everything)
        assert (after <= before).all()
        before = after


def test_utility_of_a_surrogate_selection_is_the_exact_one():
    gradients = np.random.default_rng(1).standard_normal((12, 5))
    selection = select(gradients, SelectionConfig(budget=Budget(count=6), information="diagonal"))
    chosen = gradients[selection.indices]
    assert selection.utility == pytest.approx(np.linalg.slogdet(np.eye(5) + chosen.T @ chosen)[1])
    assert not math.isclose(selection.utility, sum(selection.gains), rel_tol=1e-3)
