"""``select`` against its definition: every candidate, every step, one log-determinant each."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.config import Budget, SelectionConfig
from spice_select.errors import (
    BudgetError,
    ConfigError,
    EmptyPoolError,
    NonFiniteGradientError,
    PoolError,
)
from spice_select.selection import active_set
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.select import random_control, select
from tests.fixtures.examples import examples
from tests.reference.selection import dense_select, precise_gains, precise_select

cases = settings(max_examples=examples(60))


def config(count, **kwargs):
    return SelectionConfig(budget=Budget(count=count), **kwargs)


def pool(seed, n, d, *, spread=0.5, duplicates=0, zeros=0, opposed=0):
    """Random gradients of unequal length, some repeated, some zero, some the opposite of another."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, d)) * np.exp(spread * random.standard_normal((n, 1))) / math.sqrt(d)
    for count, make in ((duplicates, lambda row: row), (opposed, np.negative), (zeros, np.zeros_like)):
        for _ in range(min(count, n - 1)):
            source, target = random.choice(n, 2, replace=False)
            rows[target] = make(rows[source])
    return rows


shapes = st.tuples(st.integers(1, 24), st.integers(1, 12))
counts = st.integers(0, 6)


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=shapes,
    duplicates=counts,
    zeros=counts,
    opposed=counts,
    alpha=st.sampled_from([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3]),
    penalty=st.sampled_from([0.0, 0.1, 0.5, 1.0, 10.0]),
    share=st.floats(0.05, 1.0),
)
def test_equals_the_dense_greedy_pick_for_pick(seed, shape, duplicates, zeros, opposed, alpha, penalty, share):
    gradients = pool(seed, *shape, duplicates=duplicates, zeros=zeros, opposed=opposed)
    count = max(1, round(share * len(gradients)))
    selection = select(gradients, config(count, alpha=alpha, conflict_penalty=penalty))
    picks, gains, conflicts = dense_select(gradients, alpha=alpha, penalty=penalty, count=count)
    assert selection.indices == picks
    np.testing.assert_allclose(selection.gains, gains, rtol=1e-7, atol=1e-11)
    np.testing.assert_allclose(selection.conflicts, conflicts, rtol=1e-7, atol=1e-8)
    assert selection.utility == pytest.approx(sum(gains), rel=1e-9, abs=1e-11)
    np.testing.assert_allclose(selection.scores, np.subtract(selection.gains, penalty * np.array(selection.conflicts)))


@pytest.mark.parametrize("penalty", [0.0, 0.1, 2.0])
@pytest.mark.parametrize(("n", "d", "count"), [(400, 12, 60), (300, 64, 300), (600, 200, 150), (1500, 8, 40)])
def test_large_pools_that_need_several_fronts_equal_the_dense_greedy(n, d, count, penalty):
    gradients = pool(n + d, n, d, duplicates=n // 8, zeros=3, opposed=9)
    selection = select(gradients, config(count, conflict_penalty=penalty))
    assert selection.indices == fast_dense(gradients, 1.0, penalty, count)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("d", "near"), [(4, 0.0), (30, 1e-7), (90, 0.0)])
def test_fronts_that_change_at_every_turn_equal_the_dense_greedy(seed, d, near, monkeypatch):
    for name, value in {"SHARE": 1000, "COLUMNS": 3, "EXACT": 8, "REFRESHED": 2}.items():
        monkeypatch.setattr(active_set, name, value)
    gradients = pool(seed, 120, d, spread=0.1 * (seed % 3), duplicates=10, zeros=2, opposed=8)
    if near > 0.0:  # as long as float32 can just not tell them apart
        gradients /= np.linalg.norm(gradients, axis=1, keepdims=True) + 1e-300
        gradients *= 1.0 + near * np.random.default_rng(seed).standard_normal((120, 1))
    penalty = [0.0, 0.1, 1.0][seed % 3]
    assert select(gradients, config(70, conflict_penalty=penalty)).indices == fast_dense(gradients, 1.0, penalty, 70)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_a_wrong_guess_who_comes_next_changes_no_pick(penalty, monkeypatch):
    asked = []

    def worst_first(window):
        asked.append(len(window.forms))
        return -window.gains()

    monkeypatch.setattr(active_set.ActiveBlock, "likely_gains", worst_first)
    gradients = pool(5, 300, 40, spread=0.1, duplicates=20, zeros=2, opposed=8)
    assert select(gradients, config(120, conflict_penalty=penalty)).indices == fast_dense(gradients, 1.0, penalty, 120)
    assert asked


def fast_dense(gradients, alpha, penalty, count):
    """The dense greedy with one explicit inverse a step: the same definition, quick enough for some hundred rows."""
    d = gradients.shape[1]
    fisher, total, chosen = np.eye(d), np.zeros(d), []
    norms = np.sqrt((gradients**2).sum(axis=1))
    for step in range(count):
        solved = np.linalg.solve(fisher, gradients.T)
        gains = np.log1p(alpha * (gradients.T * solved).sum(axis=0))
        mean = total / max(1, step)
        conflicts = np.maximum(0.0, -(gradients @ mean) / (norms * np.linalg.norm(mean) + 1e-8))
        scores = gains - penalty * conflicts
        scores[chosen] = -np.inf
        row = int(np.flatnonzero(scores >= scores.max() - 1e-11 * max(1.0, abs(scores.max())))[0])
        chosen.append(row)
        total = gradients[chosen].sum(axis=0)
        fisher += alpha * np.outer(gradients[row], gradients[row])
    return chosen


@pytest.mark.parametrize("penalty", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("seed", range(4))
def test_lengths_from_1e_minus_12_to_1e12_equal_arithmetic_of_eighty_digits(seed, alpha, penalty):
    random = np.random.default_rng(seed)
    gradients = random.standard_normal((9, 4)) * 10.0 ** random.uniform(-12, 12, (9, 1))
    gradients[4] = gradients[2]
    gradients[7] = gradients[1] * (1 + 1e-9)
    selection = select(gradients, config(9, alpha=alpha, conflict_penalty=penalty))
    exact = precise_gains(gradients, selection.indices, alpha)
    # What a relative change of 2^-52 in the input may do to each gain limits any float64 algorithm.
    np.testing.assert_allclose(selection.gains, exact, rtol=2e-3)
    if not penalty:
        ordered = precise_select(gradients, alpha, penalty, 9)
        assert selection.indices == ordered


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_near_ties_equal_arithmetic_of_eighty_digits(seed, alpha):
    random = np.random.default_rng(seed)
    gradients = random.standard_normal((10, 5))
    for row in range(5, 10):
        gradients[row] = gradients[row - 5] * (1 + random.choice([-1, 1]) * 10.0 ** random.uniform(-9, -6))
    assert select(gradients, config(10, alpha=alpha)).indices == precise_select(gradients, alpha, 0.1, 10)


def test_long_gradients_switch_to_the_safe_way_in_the_middle_and_stay_exact():
    random = np.random.default_rng(5)
    gradients = random.standard_normal((40, 6))
    gradients[:12] *= 1e7
    selection = select(gradients, config(40, conflict_penalty=0.0))
    np.testing.assert_allclose(selection.gains, precise_gains(gradients, selection.indices, 1.0), rtol=1e-6)
    assert selection.indices == precise_select(gradients, 1.0, 0.0, 40)


@cases
@given(seed=st.integers(0, 2**32 - 1), shape=shapes, alpha=st.sampled_from([1e-3, 1.0, 1e3]))
def test_without_penalty_gains_fall_and_add_up_to_the_utility(seed, shape, alpha):
    gradients = pool(seed, *shape, duplicates=2)
    selection = select(gradients, config(shape[0], alpha=alpha, conflict_penalty=0.0))
    gains = np.array(selection.gains)
    assert (gains >= 0).all()
    assert (np.diff(gains) <= 1e-10).all()
    assert (np.array(selection.epsilons) <= 1e-12).all()
    assert selection.epsilons[0] == pytest.approx(0.0, abs=1e-12)
    assert selection.utility == pytest.approx(gains.sum(), rel=1e-10, abs=1e-12)
    assert sorted(selection.indices) == list(range(shape[0]))


@cases
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 24), d=st.integers(1, 12))
def test_the_order_of_the_pool_does_not_matter(seed, n, d):
    gradients = pool(seed, n, d)
    order = np.random.default_rng(seed).permutation(n)
    straight = select(gradients, config(n // 2, conflict_penalty=0.3))
    permuted = select(gradients[order], config(n // 2, conflict_penalty=0.3))
    assert [int(order[row]) for row in permuted.indices] == straight.indices


def test_a_smaller_budget_is_a_prefix_of_a_larger_one():
    gradients = pool(3, 200, 16, duplicates=10)
    longest = select(gradients, config(120)).indices
    for count in (1, 7, 64, 119):
        assert select(gradients, config(count)).indices == longest[:count]


def test_identical_rows_come_in_the_order_of_the_pool():
    gradients = np.tile(np.random.default_rng(0).standard_normal(7), (300, 1))
    selection = select(gradients, config(300))
    assert selection.indices == list(range(300))
    # The t-th copy adds log((1 + t q) / (1 + (t - 1) q)).
    q = float(gradients[0] @ gradients[0])
    np.testing.assert_allclose(selection.gains, [math.log((1 + t * q) / (1 + (t - 1) * q)) for t in range(1, 301)])


def test_rows_that_tie_without_being_identical_come_in_the_order_of_the_pool():
    selection = select(np.eye(400), config(400))
    assert selection.indices == list(range(400))
    np.testing.assert_allclose(selection.gains, math.log(2), rtol=1e-14)


def test_opposite_gradients_are_held_back_by_the_penalty():
    gradients = np.array([[2.0, 0.0], [-1.9, 0.0], [0.0, 0.5]])
    assert select(gradients, config(3, conflict_penalty=0.0)).indices == [0, 1, 2]
    selection = select(gradients, config(3, conflict_penalty=1.0))
    assert selection.indices == [0, 2, 1]
    assert selection.conflicts == pytest.approx([0.0, 0.0, 1.0 / math.hypot(1.0, 0.25)], abs=1e-8)


def test_a_sum_of_gradients_that_cancels_leaves_no_conflict():
    gradients = np.array([[3.0, 0.1], [-3.0, -0.1], [0.5, 0.7], [-0.5, -0.7]])
    selection = select(gradients, config(3, conflict_penalty=0.0))
    assert selection.indices == [0, 1, 2]
    assert selection.conflicts == [0.0, pytest.approx(1.0, abs=1e-8), 0.0]


def test_zero_gradients_gain_nothing_and_come_last():
    gradients = pool(1, 30, 5)
    gradients[[2, 11, 17]] = 0.0
    selection = select(gradients, config(30, conflict_penalty=0.0))
    assert selection.indices[-3:] == [2, 11, 17]
    assert selection.gains[-3:] == selection.conflicts[-3:] == [0.0, 0.0, 0.0]


def test_a_pool_of_zeros_is_taken_in_order_and_worth_nothing():
    selection = select(np.zeros((5, 3)), config(4))
    assert selection.indices == [0, 1, 2, 3]
    assert selection.utility == pytest.approx(0.0, abs=0)
    assert selection.certificate.ratio == pytest.approx(1.0, abs=0)
    assert selection.certificate.curvature == pytest.approx(0.0, abs=0)


@pytest.mark.parametrize("information", ["logdet", "diagonal", "scalar"])
@pytest.mark.parametrize("method", ["spice", "fisher", "random", "top_norm"])
def test_one_row_is_a_pool(method, information):
    selection = select(np.array([[0.6, 0.8]]), config(1, method=method, information=information))
    assert selection.indices == [0]
    assert selection.utility == pytest.approx(math.log(2))
    assert selection.stop_reason == "budget_reached"


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_early_stop_ends_before_the_pick_that_gains_too_little(penalty):
    gradients = pool(9, 80, 6)
    whole = select(gradients, config(80, conflict_penalty=penalty))
    selection = select(gradients, config(80, conflict_penalty=penalty, stop_ratio=0.5))
    first_below = next(i for i, gain in enumerate(whole.gains) if i and gain <= 0.5 * whole.gains[0])
    assert selection.indices == whole.indices[:first_below]
    assert selection.stop_reason == "stop_ratio"
    assert not selection.partial
    assert dense_select(gradients, alpha=1.0, penalty=penalty, count=80, stop_ratio=0.5)[0] == selection.indices


def test_a_stop_from_outside_keeps_the_prefix():
    gradients = pool(4, 60, 8)
    asked = iter(range(100))
    selection = select(gradients, config(40), should_stop=lambda: next(asked) == 13)
    assert selection.indices == select(gradients, config(40)).indices[:13]
    assert (selection.stop_reason, selection.partial) == ("cancelled", True)
    nothing = select(gradients, config(40), should_stop=lambda: True)
    assert (nothing.indices, nothing.utility, nothing.partial) == ([], 0.0, True)


def test_a_deadline_is_told_apart_from_a_cancel():
    gradients = pool(4, 60, 8)
    asked = iter(range(100))
    selection = select(gradients, config(40), should_stop=lambda: "deadline" if next(asked) == 13 else False)
    assert selection.indices == select(gradients, config(40)).indices[:13]
    assert (selection.stop_reason, selection.partial) == ("deadline", True)


def test_progress_is_told_after_every_pick():
    told = []
    select(pool(0, 20, 3), config(6), on_progress=lambda picked, total: told.append((picked, total)))
    assert told == [(picked, 6) for picked in range(1, 7)]


def test_fraction_counts_usable_rows():
    selection = select(pool(0, 25, 3), SelectionConfig(budget=Budget(fraction=0.1)))
    assert len(selection.indices) == 3


@cases
@given(seed=st.integers(0, 2**32 - 1), shape=shapes, penalty=st.sampled_from([0.0, 0.1, 1.0]))
def test_token_budget_is_the_better_of_two_dense_greedy_runs(seed, shape, penalty):
    gradients = pool(seed, *shape, duplicates=2)
    random = np.random.default_rng(seed)
    costs = random.integers(1, 40, len(gradients))
    tokens = int(random.integers(costs.min(), costs.sum() + 2))
    selection = select(
        gradients, SelectionConfig(budget=Budget(tokens=tokens), conflict_penalty=penalty), costs=costs.tolist()
    )
    runs = {
        rule: dense_select(
            gradients, alpha=1.0, penalty=penalty, count=len(gradients), costs=costs, tokens=tokens, per_token=per_token
        )
        for rule, per_token in (("score", False), ("score_per_token", True))
    }
    assert selection.indices == runs[selection.rule][0]
    assert selection.utility == pytest.approx(max(sum(gains) for _, gains, _ in runs.values()), rel=1e-9, abs=1e-11)
    assert selection.cost == costs[selection.indices].sum() <= tokens
    left = tokens - selection.cost
    assert all(costs[row] > left for row in set(range(len(gradients))) - set(selection.indices))
    assert (selection.stop_reason == "pool_exhausted") == (len(selection.indices) == len(gradients))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_real_type_of_torch_and_numpy_gives_the_same_picks(dtype):
    gradients = torch.from_numpy(pool(2, 90, 10)).to(dtype)
    expected = fast_dense(gradients.double().numpy(), 1.0, 0.1, 30)
    assert select(gradients, config(30)).indices == expected
    if dtype is not torch.bfloat16:
        assert select(gradients.numpy(), config(30)).indices == expected
    assert select(gradients.requires_grad_(), config(30)).indices == expected


def test_a_read_only_memory_map_is_read_in_blocks_and_left_alone(tmp_path):
    gradients = pool(6, 500, 12).astype(np.float32)
    np.save(tmp_path / "gradients.npy", gradients)
    mapped = np.load(tmp_path / "gradients.npy", mmap_mode="r")
    assert select(mapped, config(50)).indices == select(gradients, config(50)).indices
    np.testing.assert_array_equal(mapped, gradients)


def test_the_input_is_not_changed():
    gradients = torch.from_numpy(pool(6, 100, 12))
    before = gradients.clone()
    for information in ("logdet", "diagonal", "scalar"):
        select(gradients, config(50, information=information))
    assert torch.equal(gradients, before)


def test_candidates_can_be_checked_once_and_used_often():
    gradients = pool(6, 100, 12)
    candidates = GradientMatrix(gradients)
    assert select(candidates, config(20)) == select(gradients, config(20))
    assert random_control(candidates, config(20), 20, 1) == random_control(gradients, config(20), 20, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("information", ["logdet", "diagonal", "scalar"])
def test_the_gpu_makes_the_same_picks(information):
    gradients = torch.from_numpy(pool(8, 3000, 96, duplicates=50, opposed=50)).float()
    settings = config(400, information=information)
    assert select(gradients.cuda(), settings).indices == select(gradients, settings).indices


def test_bad_rows_are_named():
    gradients = np.ones((50, 3), dtype=np.float32)
    gradients[7, 1], gradients[30:, 0] = np.nan, np.inf
    with pytest.raises(NonFiniteGradientError, match=r"21 of 50 .* rows 7, 30, 31, .* and 1 more") as caught:
        select(gradients, config(3))
    assert len(caught.value.errors) == 20


def test_numbers_too_large_to_square_are_refused():
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        select(np.array([[1.0], [1e200]]), config(1))


@pytest.mark.parametrize(
    ("gradients", "error"),
    [
        (np.zeros((0, 4)), EmptyPoolError),
        (np.zeros((4, 0)), PoolError),
        (np.zeros(4), PoolError),
        (np.zeros((2, 2), dtype=complex), PoolError),
        (np.array([["a", "b"]]), PoolError),
    ],
)
def test_what_is_no_pool_is_refused(gradients, error):
    with pytest.raises(error):
        select(gradients, config(1))


def test_budgets_beyond_the_pool_are_refused():
    with pytest.raises(BudgetError) as caught:
        select(pool(0, 5, 2), config(6))
    assert caught.value.errors[0]["pointer"] == "#/budget/count"
    with pytest.raises(BudgetError) as caught:
        select(pool(0, 3, 2), SelectionConfig(budget=Budget(tokens=9)), costs=[12, 10, 11])
    assert caught.value.errors[0]["pointer"] == "#/budget/tokens"
    with pytest.raises(ConfigError):
        select(pool(0, 3, 2), SelectionConfig(budget=Budget(tokens=9)))


@pytest.mark.parametrize("costs", [[1, 2], [1, 0, 3], [[1, 2, 3]], [1, float("nan"), 2]])
def test_costs_that_do_not_fit_the_pool_are_refused(costs):
    with pytest.raises(PoolError):
        select(pool(0, 3, 2), config(1), costs=costs)
