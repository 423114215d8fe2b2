"""The matching term and herding against their definitions: w is added up pick by pick, every score is dense."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.config import Budget, SelectionConfig
from spice_select.selection import kernel_columns
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.herding import Remainder
from spice_select.selection.select import select
from tests.fixtures.examples import examples
from tests.library.test_greedy import pool
from tests.reference.selection import matching_select

cases = settings(max_examples=examples(60))
counts = st.integers(0, 6)


def config(count, **kwargs):
    return SelectionConfig(budget=Budget(count=count), **kwargs)


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 24), st.integers(1, 12)),
    duplicates=counts,
    zeros=counts,
    opposed=counts,
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3]),
    penalty=st.sampled_from([0.0, 0.1, 1.0]),
    weight=st.sampled_from([0.01, 0.3, 1.0, 30.0]),
    share=st.floats(0.05, 1.0),
)
def test_equals_the_dense_definition_pick_for_pick(
    seed, shape, duplicates, zeros, opposed, alpha, penalty, weight, share
):
    gradients = pool(seed, *shape, duplicates=duplicates, zeros=zeros, opposed=opposed)
    count = max(1, round(share * len(gradients)))
    selection = select(gradients, config(count, alpha=alpha, conflict_penalty=penalty, matching_weight=weight))
    picks, gains, scores = matching_select(gradients, alpha=alpha, penalty=penalty, weight=weight, count=count)
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-7, atol=1e-11)
    np.testing.assert_allclose(selection.scores, scores, rtol=1e-7, atol=1e-9)
    assert selection.utility == pytest.approx(sum(gains), rel=1e-9, abs=1e-11)


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 24), st.integers(1, 12)),
    duplicates=counts,
    zeros=counts,
    opposed=counts,
)
def test_herding_equals_its_definition_pick_for_pick(seed, shape, duplicates, zeros, opposed):
    gradients = pool(seed, *shape, duplicates=duplicates, zeros=zeros, opposed=opposed)
    selection = select(gradients, config(len(gradients), method="herding"))
    assert selection.indices == matching_select(gradients, alpha=1.0, penalty=0.0, weight=None, count=len(gradients))[0]


@pytest.mark.parametrize("information", ["logdet", "diagonal", "scalar"])
def test_no_weight_leaves_the_choice_alone_and_a_small_one_changes_it_by_little(information):
    gradients = pool(3, 200, 16)
    plain = select(gradients, config(60, information=information))
    tiny = select(gradients, config(60, information=information, matching_weight=1e-9))
    assert tiny.indices == plain.indices
    assert select(gradients, config(60, information=information, matching_weight=1.0)).indices != plain.indices


def test_a_large_weight_is_herding():
    gradients = pool(5, 120, 8)
    herding = select(gradients, config(40, method="herding")).indices
    assert select(gradients, config(40, conflict_penalty=0.0, matching_weight=1000.0, alpha=1e-9)).indices == herding


@pytest.mark.parametrize("count", [20, 60])
def test_the_mean_of_the_set_comes_nearer_to_the_mean_of_the_pool(count):
    gradients = pool(11, 300, 24) + 0.3
    mean = gradients.mean(axis=0)

    def distance(**kwargs):
        return np.linalg.norm(gradients[select(gradients, config(count, **kwargs)).indices].mean(axis=0) - mean)

    random = np.median([distance(method="random", seed=seed) for seed in range(9)])
    assert distance(method="herding") < 0.8 * random
    assert distance(matching_weight=1.0) < distance()


def test_gradients_that_cancel_have_no_mean_to_match():
    half = pool(2, 20, 6)
    gradients = np.concatenate([half, -half])
    assert Remainder(GradientMatrix(gradients)).mean_norm == pytest.approx(0.0, abs=0)
    plain = select(gradients, config(15))
    assert select(gradients, config(15, matching_weight=5.0)).indices == plain.indices


def test_lengths_from_1e_minus_6_to_1e6_keep_exact_gains():
    random = np.random.default_rng(4)
    gradients = random.standard_normal((30, 5)) * 10.0 ** random.uniform(-6, 6, (30, 1))
    selection = select(gradients, config(30, matching_weight=0.3))
    assert sorted(selection.indices) == list(range(30))
    assert selection.utility == pytest.approx(sum(selection.gains), rel=1e-6)


def test_the_term_can_rise_after_a_pick_so_no_earlier_value_bounds_it():
    remainder = Remainder(GradientMatrix(np.array([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.4]])))
    before = remainder.values()
    remainder.add(torch.tensor([-0.5, 0.4], dtype=torch.float64))
    assert remainder.values()[0] > before[0]


def test_token_budgets_and_quotas_hold_with_the_term():
    gradients, random = pool(8, 80, 6), np.random.default_rng(8)
    costs, groups = random.integers(1, 40, 80), random.choice(["a", "b"], 80).tolist()
    budget = SelectionConfig(budget=Budget(tokens=300), matching_weight=0.5)
    assert select(gradients, budget, costs=costs.tolist()).cost <= 300
    capped = SelectionConfig.model_validate(
        {"budget": {"count": 20}, "matching_weight": 0.5, "quotas": {"caps": {"a": 3}}}
    )
    assert sum(groups[row] == "a" for row in select(gradients, capped, groups=groups).indices) == 3


def test_owned_samples_count_for_gain_and_conflict_only():
    gradients, owned = pool(9, 60, 5), pool(10, 7, 5)
    selection = select(gradients, config(20, matching_weight=0.5), given=owned)
    picks, gains, _ = matching_select(gradients, alpha=1.0, penalty=0.1, weight=0.5, count=20, owned=owned)
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-8)


def test_a_large_pool_equals_the_definition_however_its_columns_are_had(monkeypatch):
    gradients = pool(21, 420, 24, duplicates=40, zeros=3, opposed=20)
    picks = matching_select(gradients, alpha=1.0, penalty=0.1, weight=1.0, count=30)[0]
    for worth, features, size in ((16, 512, 2**30), (0, 7, 2**30), (16, 512, 0)):
        monkeypatch.setattr(kernel_columns, "WORTH", worth)
        monkeypatch.setattr(kernel_columns, "FEATURES", features)
        monkeypatch.setattr(kernel_columns, "SINGLE_BYTES", size)
        assert select(gradients, config(30, matching_weight=1.0)).indices == picks
        assert select(gradients.astype(np.float32), config(30, matching_weight=1.0)).indices == picks


def test_products_in_float32_are_within_their_bound():
    gradients = pool(22, 300, 1500).astype(np.float32)
    exact = gradients.astype(np.float64) @ gradients.astype(np.float64).T
    lengths = np.sqrt(np.diag(exact))
    for picks in (1, 300):
        columns = kernel_columns.KernelColumns(GradientMatrix(gradients), picks)
        for row in (0, 150, 299):
            off = np.abs(columns.column(row).double().numpy() - exact[row])
            assert (off <= columns.error * lengths * lengths[row]).all()
