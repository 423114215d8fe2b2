"""Bounds against brute force over every subset, and measures against their definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.config import Budget, SelectionConfig
from spice_select.selection import certificate
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.select import select
from tests.fixtures.examples import examples

METHODS = ["spice", "fisher", "random", "top_norm"]
cases = settings(max_examples=examples(40))


def utility(rows, alpha):
    return np.linalg.slogdet(np.eye(rows.shape[1]) + alpha * rows.T @ rows)[1]


def pool(seed, n, d):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)) * np.exp(0.7 * random.standard_normal((n, 1)))


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    d=st.integers(1, 6),
    alpha=st.sampled_from([0.01, 1.0, 50.0]),
    penalty=st.sampled_from([0.0, 0.5, 10.0]),
    method=st.sampled_from(METHODS),
    information=st.sampled_from(["logdet", "diagonal"]),
)
def test_no_set_of_the_same_size_beats_the_upper_bound(seed, n, d, alpha, penalty, method, information):
    gradients = pool(seed, n, d)
    count = 1 + seed % n
    config = SelectionConfig(
        budget=Budget(count=count), method=method, alpha=alpha, conflict_penalty=penalty, information=information
    )
    selection = select(gradients, config)
    best = max(utility(gradients[list(rows)], alpha) for rows in itertools.combinations(range(n), count))
    certificate = selection.certificate
    assert certificate.utility == selection.utility
    assert selection.utility == pytest.approx(utility(gradients[selection.indices], alpha), rel=1e-9)
    assert selection.utility <= best * (1 + 1e-9)
    assert best <= certificate.upper_bound * (1 + 1e-9)
    assert certificate.ratio == pytest.approx(selection.utility / certificate.upper_bound)
    if method == "fisher" and information == "logdet":
        assert selection.utility >= certificate.greedy_bound * best * (1 - 1e-9)


@cases
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 9), d=st.integers(1, 5), method=st.sampled_from(METHODS))
def test_no_set_of_the_same_tokens_beats_the_upper_bound(seed, n, d, method):
    gradients, random = pool(seed, n, d), np.random.default_rng(seed)
    costs = random.integers(1, 20, n)
    tokens = int(random.integers(costs.min(), costs.sum() + 1))
    config = SelectionConfig(budget=Budget(tokens=tokens), method=method)
    selection = select(gradients, config, costs=costs.tolist())
    best = max(
        utility(gradients[list(rows)], 1.0)
        for size in range(n + 1)
        for rows in itertools.combinations(range(n), size)
        if costs[list(rows)].sum() <= tokens
    )
    assert selection.utility <= best * (1 + 1e-9)
    assert best <= selection.certificate.upper_bound * (1 + 1e-9)


@cases
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 9), d=st.integers(1, 5))
def test_the_bound_holds_for_what_is_added_to_given_samples(seed, n, d):
    gradients, owned = pool(seed, n, d), pool(seed + 1, 3, d)
    count = 1 + seed % n
    selection = select(gradients, SelectionConfig(budget=Budget(count=count)), given=owned)

    def added(rows):
        return utility(np.concatenate([owned, gradients[list(rows)]]), 1.0) - utility(owned, 1.0)

    best = max(added(rows) for rows in itertools.combinations(range(n), count))
    assert selection.utility == pytest.approx(added(selection.indices), rel=1e-9)
    assert best <= selection.certificate.upper_bound * (1 + 1e-9)


def test_after_an_early_stop_the_bound_is_for_the_size_that_was_chosen():
    gradients = pool(3, 9, 3)
    selection = select(gradients, SelectionConfig(budget=Budget(count=9), stop_ratio=0.6))
    size = len(selection.indices)
    assert 1 < size < 9
    best = max(utility(gradients[list(rows)], 1.0) for rows in itertools.combinations(range(9), size))
    assert best <= selection.certificate.upper_bound <= 1.3 * best


@pytest.mark.parametrize(("n", "d"), [(5, 9), (9, 9), (30, 4), (1, 3)])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_curvature_equals_its_definition(n, d, alpha):
    gradients = np.concatenate([pool(n, n, d), np.zeros((2, d))])
    everything = utility(gradients, alpha)
    ratios = [
        (everything - utility(np.delete(gradients, row, axis=0), alpha)) / utility(gradients[row : row + 1], alpha)
        for row in range(n)
    ]
    curvature, exact = certificate.total_curvature(GradientMatrix(gradients), alpha)
    assert exact
    assert curvature == pytest.approx(1 - min(ratios), abs=1e-8)


def test_what_is_too_costly_is_bounded_or_left_out_and_marked(monkeypatch):
    gradients = pool(0, 40, 6)
    config = SelectionConfig(budget=Budget(count=10), information="diagonal")
    exact = select(gradients, config).certificate
    monkeypatch.setattr(certificate, "EXACT_OPERATIONS", 10.0)
    cheap = select(gradients, config).certificate
    assert exact.curvature_exact
    assert (cheap.curvature_exact, cheap.curvature) == (False, pytest.approx(1.0))
    assert (cheap.max_cosine, cheap.epsilon_constant) == (None, None)
    assert exact.upper_bound <= cheap.upper_bound


def test_lengths_beyond_float64_still_get_a_certificate():
    gradients = pool(0, 12, 3)
    gradients[3] *= 1e12
    gradients[4] *= 1e-9
    certificate = select(gradients, SelectionConfig(budget=Budget(count=5))).certificate
    assert 0 < certificate.ratio <= 1
    assert not certificate.curvature_exact


@pytest.mark.parametrize(("curvature", "expected"), [(0.0, 1.0), (1.0, 1 - math.exp(-1)), (0.5, 2 * -math.expm1(-0.5))])
def test_greedy_guarantee(curvature, expected):
    assert certificate.greedy_guarantee(curvature) == pytest.approx(expected)


def test_a_fraction_of_a_sample_fills_a_budget():
    gains, costs = torch.tensor([3.0, 2.0, 10.0]), torch.tensor([1.0, 4.0, 5.0])
    assert certificate.best_within(gains.double(), costs.double(), 8.0) == pytest.approx(3.0 + 10.0 + 2.0 * 2 / 4)
    assert certificate.best_within(gains.double(), costs.double(), 0.5) == pytest.approx(1.5)
    assert certificate.best_within(gains.double(), costs.double(), 99.0) == pytest.approx(15.0)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("seed", range(4))
def test_epsilon_terms_stay_within_their_gradient_products(seed, alpha):
    gradients = pool(seed, 25, 8)
    selection = select(gradients, SelectionConfig(budget=Budget(count=25), alpha=alpha, conflict_penalty=0.3))
    order = gradients[selection.indices]
    expected = [
        alpha**2 * sum(float(g @ other) ** 2 for other in order[:i]) / (1 + alpha * float(g @ g))
        for i, g in enumerate(order)
    ]
    bounds = certificate.epsilon_bounds(torch.from_numpy(order), alpha)
    np.testing.assert_allclose(bounds, expected, rtol=1e-10)
    sizes = np.abs(selection.epsilons)
    assert (-np.expm1(-sizes) <= np.array(expected) * (1 + 1e-9) + 1e-12).all()
    constant = selection.certificate.epsilon_constant
    assert (sizes <= constant * np.array(expected) * (1 + 1e-9) + 1e-8).all()
    assert constant == pytest.approx(max(s / b for s, b in zip(sizes, expected, strict=True) if b > 1e-9))


def test_spearman_by_hand_and_with_ties():
    assert certificate.spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)
    assert certificate.spearman([0, 0, 1], [3, 3, 3]) is None
    assert certificate.spearman([1], [1]) is None
    assert certificate.spearman([0.1, 0.2, 0.3], [9, 5, 1]) == pytest.approx(-1)


def test_correlations_of_a_selection_are_those_of_its_lists():
    gradients = pool(5, 60, 4)
    selection = select(gradients, SelectionConfig(budget=Budget(count=40), conflict_penalty=0.2))

    def ranks(values):
        return [sum(other < v for other in values) + (sum(other == v for other in values) - 1) / 2 for v in values]

    expected = np.corrcoef(ranks(selection.conflicts), ranks(selection.gains))[0, 1]
    assert selection.certificate.spearman_conflict_gain == pytest.approx(expected)
    expected = np.corrcoef(ranks(selection.conflicts), ranks([abs(e) for e in selection.epsilons]))[0, 1]
    assert selection.certificate.spearman_conflict_epsilon == pytest.approx(expected)
    assert selection.certificate.max_conflict == max(selection.conflicts)


@pytest.mark.parametrize("m", [2, 7, 600])
def test_cosines_equal_those_of_every_pair(m):
    rows = np.concatenate([pool(m, m, 5), np.zeros((2, 5))])
    unit = rows[:m] / np.linalg.norm(rows[:m], axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(m, 1)]
    mean, largest = certificate.cosines(torch.from_numpy(rows))
    assert mean == pytest.approx(pairs.mean(), abs=1e-12)
    assert largest == pytest.approx(pairs.max())
    assert certificate.cosines(torch.from_numpy(rows[m - 1 :])) == (None, None)
