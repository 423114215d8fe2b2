"""Every other method against an independent implementation or a case made by hand."""

import collections
import math

import numpy as np
import pytest
import torch

from spice_select.config import Budget, SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.selection.baselines import (
    LENGTH_BINS,
    descending_order,
    length_matched_order,
    random_order,
    stratified_order,
)
from spice_select.selection.coverage import DPP_RIDGE
from spice_select.selection.random_baseline import random_control
from spice_select.selection.select import select

METHODS = [
    "spice",
    "fisher",
    "random",
    "stratified",
    "length_matched",
    "top_norm",
    "loss",
    "less",
    "dpp",
    "facility_location",
    "k_center",
    "herding",
    "bm25",
    "embedding",
]
TARGETED = {"less", "bm25", "embedding"}


def pool(seed, n, d):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)) * np.exp(0.5 * random.standard_normal((n, 1)))


def side(seed, n, d, method="less"):
    """What methods need beside the gradients; only some get targets, which would make another method of others."""
    random = np.random.default_rng(seed + 1000)
    known = {
        "costs": random.integers(5, 400, n).tolist(),
        "groups": random.choice(["math", "code", "chat"], n).tolist(),
        "losses": random.exponential(2.0, n).tolist(),
        "targets": random.standard_normal((4, d)),
        "target_scores": [torch.from_numpy(random.exponential(1.0, (n, 4)))],
    }
    return known if method in TARGETED else {name: v for name, v in known.items() if not name.startswith("target")}


def config(method, count, **kwargs):
    return SelectionConfig(budget=Budget(count=count), method=method, **kwargs)


def evidence(gradients, order, alpha=1.0):
    """Gain and conflict of each row of an order, by definition."""
    gains, conflicts = [], []
    for i, row in enumerate(order):
        before, after = gradients[order[:i]], gradients[order[: i + 1]]
        eye = np.eye(gradients.shape[1])
        gains.append(
            np.linalg.slogdet(eye + alpha * after.T @ after)[1] - np.linalg.slogdet(eye + alpha * before.T @ before)[1]
        )
        mean = before.mean(axis=0) if i else np.zeros(gradients.shape[1])
        cosine = gradients[row] @ mean / (np.linalg.norm(gradients[row]) * np.linalg.norm(mean) + 1e-8)
        conflicts.append(max(0.0, -cosine))
    return gains, conflicts


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(300, 12), (40, 70)])
def test_every_method_gives_the_same_evidence_for_its_picks(method, n, d):
    gradients = pool(n, n, d)
    selection = select(gradients, config(method, n // 2), **side(n, n, d, method))
    assert len(set(selection.indices)) == len(selection.indices) == n // 2
    gains, conflicts = evidence(gradients, selection.indices)
    np.testing.assert_allclose(selection.gains, gains, atol=1e-9)
    np.testing.assert_allclose(selection.conflicts, conflicts, atol=1e-9)
    assert selection.utility == pytest.approx(sum(gains), rel=1e-9)
    assert selection.certificate.ratio <= 1
    assert selection.method == method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("information", ["diagonal", "scalar"])
def test_every_method_has_evidence_in_the_surrogates(method, information):
    gradients = pool(3, 60, 8)
    selection = select(gradients, config(method, 20, information=information), **side(3, 60, 8, method))
    denominator = np.ones(8)
    for row, gain in zip(selection.indices, selection.gains, strict=True):
        form = (gradients[row] ** 2 / (2.0 if information == "scalar" else denominator)).sum()
        assert gain == pytest.approx(math.log1p(form))
        denominator += gradients[row] ** 4


@pytest.mark.parametrize("method", METHODS)
def test_every_method_chooses_everything_when_asked_to_and_repeats_itself(method):
    gradients = pool(5, 25, 4)
    selection = select(gradients, config(method, 25), **side(5, 25, 4, method))
    assert sorted(selection.indices) == list(range(25))
    assert selection == select(gradients, config(method, 25), **side(5, 25, 4, method))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_a_token_budget(method):
    gradients, beside = pool(6, 60, 6), side(6, 60, 6, method)
    selection = select(gradients, SelectionConfig(budget=Budget(tokens=3000), method=method), **beside)
    spent = sum(beside["costs"][row] for row in selection.indices)
    assert selection.cost == spent <= 3000
    if method != "length_matched":
        left = set(range(60)) - set(selection.indices)
        assert all(spent + beside["costs"][row] > 3000 for row in left)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_heeds_rows_to_include_and_exclude(method):
    gradients = pool(7, 50, 5)
    selection = select(gradients, config(method, 12), **side(7, 50, 5, method), must_include=[31, 8], exclude=[0, 1, 2])
    assert set(selection.indices[:2]) == {31, 8}
    assert not {0, 1, 2} & set(selection.indices)
    assert len(selection.indices) == (12 if method != "length_matched" else len(selection.indices))


@pytest.mark.parametrize("method", METHODS)
def test_lengths_beyond_the_fast_way_keep_their_evidence(method):
    gradients = pool(8, 30, 5)
    gradients[:9] *= 1e7
    selection = select(gradients, config(method, 20), **side(8, 30, 5, method))
    assert selection.utility == pytest.approx(sum(selection.gains), rel=1e-6)


@pytest.mark.parametrize("method", ["random", "stratified", "length_matched"])
def test_seeds_change_what_is_drawn(method):
    gradients, beside = pool(9, 80, 4), side(9, 80, 4)
    draws = {tuple(select(gradients, config(method, 10, seed=seed), **beside).indices) for seed in range(5)}
    assert len(draws) == 5


def test_random_is_uniform():
    counts = collections.Counter(row for seed in range(3000) for row in random_order(10, seed)[:3].tolist())
    # 900 expected; standard deviation 25
    assert all(abs(counts[row] - 900) < 125 for row in range(10))


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_of_a_stratified_order_has_the_shares_of_the_pool(seed):
    codes = torch.from_numpy(np.random.default_rng(seed).choice(4, 500, p=[0.6, 0.3, 0.08, 0.02]))
    order = stratified_order(codes, seed)
    assert sorted(order.tolist()) == list(range(500))
    shares = torch.bincount(codes, minlength=4) / 500
    for k in range(1, 501):
        held = torch.bincount(codes[order[:k]], minlength=4)
        assert ((held - k * shares).abs() <= 1.5).all()


def test_a_stratified_order_is_random_within_groups():
    codes = torch.zeros(6, dtype=torch.int64)
    firsts = collections.Counter(int(stratified_order(codes, seed)[0]) for seed in range(1200))
    assert all(abs(firsts[row] - 200) < 70 for row in range(6))


def test_length_matching_keeps_the_histogram_of_the_model_at_every_beginning():
    random = np.random.default_rng(1)
    costs = torch.from_numpy(random.lognormal(5, 1, 2000).round() + 1)
    model = random.permutation(2000)[:400].tolist()
    drawn = length_matched_order(costs, model, 3)
    assert len(set(drawn.tolist())) == 400
    edges = torch.quantile(costs, torch.linspace(0, 1, LENGTH_BINS + 1, dtype=torch.float64)[1:-1])
    bins = torch.bucketize(costs, edges)
    assert bins[drawn].tolist() == bins[model].tolist()
    assert drawn.tolist() != model


def test_length_matched_has_the_tokens_of_the_spice_choice():
    gradients, beside = pool(4, 1500, 6), side(4, 1500, 6, "spice")
    costs = np.array(beside["costs"])
    gradients *= (40.0 / costs)[:, None] ** 2  # short samples are the longest gradients
    tokens = {
        method: costs[select(gradients, config(method, 150), **beside).indices].sum()
        for method in ("spice", "random", "length_matched")
    }
    assert tokens["spice"] < 0.6 * tokens["random"]
    assert abs(tokens["length_matched"] / tokens["spice"] - 1) < 0.15


def test_top_norm_is_the_longest_first_with_the_gain_alone_as_score():
    gradients = np.array([[1.0, 0.0], [0.0, 3.0], [3.0, 0.0], [0.5, 0.5], [0.0, -3.0]])
    selection = select(gradients, config("top_norm", 5))
    assert selection.indices == [1, 2, 4, 0, 3]
    np.testing.assert_allclose(selection.scores, np.log1p([9, 9, 9, 1, 0.5]))
    stopped = select(gradients, config("top_norm", 5, stop_ratio=0.5))
    assert (stopped.indices, stopped.stop_reason) == ([1, 2, 4], "stop_ratio")


def test_ties_up_to_rounding_go_to_the_lower_row():
    values = torch.tensor([1.0, 1.0 + 4e-16, 5.0, 5.0 - 1e-15, 0.0, -1.0, 0.0], dtype=torch.float64)
    assert descending_order(values).tolist() == [2, 3, 0, 1, 4, 6, 5]


def test_loss_takes_the_highest_first():
    losses = [0.3, 2.0, 1.0, 2.0]
    selection = select(pool(0, 4, 3), config("loss", 3), losses=losses)
    assert (selection.indices, selection.scores) == ([1, 3, 2], [2.0, 2.0, 1.0])


def test_less_takes_what_points_to_the_targets():
    gradients, targets = pool(2, 50, 6), pool(3, 4, 6)
    unit = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    cosine = gradients @ mean / np.linalg.norm(gradients, axis=1) / np.linalg.norm(mean)
    selection = select(gradients, config("less", 10), targets=targets)
    assert selection.indices == np.argsort(-cosine)[:10].tolist()
    np.testing.assert_allclose(selection.scores, np.sort(cosine)[::-1][:10])


def test_dpp_is_the_greedy_maximum_of_the_determinant():
    gradients = pool(5, 40, 6)
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    kernel = unit @ unit.T + DPP_RIDGE * np.eye(40)
    chosen, gains = [], []
    for _ in range(15):
        logs = [
            np.linalg.slogdet(kernel[np.ix_([*chosen, row], [*chosen, row])])[1] if row not in chosen else -np.inf
            for row in range(40)
        ]
        best = int(np.flatnonzero(np.array(logs) >= max(logs) - 1e-9)[0])
        gains.append(logs[best] - sum(gains))
        chosen.append(best)
    selection = select(gradients, config("dpp", 15))
    assert selection.indices == chosen
    np.testing.assert_allclose(selection.scores, gains, atol=1e-6)


@pytest.mark.parametrize("owned", [0, 3])
def test_facility_location_is_the_greedy_maximum_of_the_coverage(owned):
    gradients, given = pool(6, 60, 5), pool(7, owned, 5)
    everything = np.concatenate([given, gradients])
    unit = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    similarity = np.maximum(unit[owned:] @ unit.T, 0.0)

    def coverage(rows):
        return similarity[:, rows].max(axis=1).sum() if len(rows) else 0.0

    chosen = list(range(owned))
    scores = []
    for _ in range(20):
        values = [coverage([*chosen, row]) if row not in chosen else -np.inf for row in range(owned, 60 + owned)]
        scores.append(max(values) - coverage(chosen))
        chosen.append(owned + int(np.argmax(values)))
    selection = select(gradients, config("facility_location", 20), given=given if owned else None)
    assert [row + owned for row in selection.indices] == chosen[owned:]
    np.testing.assert_allclose(selection.scores, scores)


@pytest.mark.parametrize("owned", [0, 2])
def test_k_center_is_farthest_first(owned):
    gradients, given = pool(8, 50, 4), pool(9, owned, 4)
    centers, chosen, scores = list(given), [], []
    for _ in range(12):
        distances = (
            np.min([np.linalg.norm(gradients - center, axis=1) for center in centers], axis=0)
            if centers
            else np.linalg.norm(gradients, axis=1)
        )
        chosen.append(int(distances.argmax()))
        scores.append(distances.max())
        centers.append(gradients[chosen[-1]])
    selection = select(gradients, config("k_center", 12), given=given if owned else None)
    assert selection.indices == chosen
    np.testing.assert_allclose(selection.scores, scores)


def test_the_random_control_is_the_utility_of_the_random_method():
    gradients = pool(1, 90, 7)
    for seed in range(3):
        selection = select(gradients, config("random", 20, seed=seed))
        assert random_control(gradients, config("spice", 20), 20, seed) == pytest.approx(selection.utility)


@pytest.mark.parametrize(
    ("method", "kwargs", "error"),
    [
        ("stratified", {}, ConfigError),
        ("length_matched", {}, ConfigError),
        ("loss", {}, ConfigError),
        ("less", {}, ConfigError),
        ("stratified", {"groups": ["a"]}, PoolError),
        ("loss", {"losses": [1.0]}, PoolError),
        ("loss", {"losses": [1.0, math.nan, 2.0]}, PoolError),
        ("less", {"targets": np.ones((2, 5))}, PoolError),
        ("less", {"targets": np.full((2, 2), np.nan)}, PoolError),
        ("less", {"targets": np.ones((0, 2))}, PoolError),
        ("spice", {"given": np.ones((2, 3))}, PoolError),
    ],
)
def test_a_method_without_what_it_needs_says_so(method, kwargs, error):
    with pytest.raises(error):
        select(np.eye(3, 2), config(method, 1), **kwargs)
