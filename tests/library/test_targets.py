"""Selection for targets against its definition, every candidate at every pick, and against given golden picks."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spice_select as ss
from spice_select.config import Budget, SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.selection import active_set
from tests.library.test_greedy import pool
from tests.reference import targeted as twin

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"
CASES = json.loads((GOLDEN / "targeted.json").read_text())
RULES = {"A": "matching", "B": "relevance"}
cases = settings(max_examples=150)
counts = st.integers(0, 6)


def config(count, **kwargs):
    return SelectionConfig(budget=Budget(count=count), **kwargs)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_picks_are_reproduced_index_for_index(case):
    with np.load(GOLDEN / "targeted.npz") as arrays:
        gradients = arrays[case["name"]].astype(np.float64)
        targets = [arrays[f"{case['name']}_target{number}"].astype(np.float64) for number in range(case["tasks"])]
    for name, expected in case["results"].items():
        letter, eta, rho = name.split()
        eta, rho = float(eta.removeprefix("eta=")), rho.removeprefix("rho=")
        if rho == "None":
            rows, tasks = twin.unit(gradients), [twin.unit(target) for target in targets]
        else:
            rows, tasks = ss.whiten(gradients, targets, block_sizes=case["blocks"], damping=float(rho))
            for ours, theirs in zip([rows, *tasks], twin_whiten(gradients, targets, case, float(rho)), strict=True):
                np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12)
        settings = config(
            case["k"],
            alpha=case["alpha"],
            conflict_penalty=0.0,
            target_rule=RULES[letter],
            information_weight=eta,
        )
        selection = ss.select(rows, settings, targets=tasks)
        assert selection.indices == expected, name
        assert selection.tasks == [pick % case["tasks"] for pick in range(case["k"])]


def twin_whiten(gradients, targets, case, damping):
    rows, others = twin.whiten(gradients, targets, case["blocks"], damping)
    return [rows, *others]


def target_rows(seed, tasks, dimension):
    random = np.random.default_rng(seed)
    return [random.standard_normal((random.integers(1, 5), dimension)) / dimension**0.5 for _ in range(tasks)]


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 12)),
    duplicates=counts,
    zeros=counts,
    opposed=counts,
    tasks=st.integers(1, 4),
    rule=st.sampled_from(["matching", "relevance"]),
    alpha=st.sampled_from([1e-2, 1.0, 100.0]),
    penalty=st.sampled_from([0.0, 0.1, 1.0]),
    weights=st.tuples(st.sampled_from([0.1, 1.0, 30.0]), st.sampled_from([0.0, 0.3, 1.0, 3.0])),
    share=st.floats(0.05, 1.0),
    equal=st.booleans(),
    single=st.booleans(),
)
def test_equals_the_definition_pick_for_pick(
    seed, shape, duplicates, zeros, opposed, tasks, rule, alpha, penalty, weights, share, equal, single
):
    gradients = pool(seed, *shape, duplicates=duplicates, zeros=zeros, opposed=opposed)
    gradients = gradients.astype(np.float32).astype(np.float64) if single else gradients
    targets = target_rows(seed, tasks, shape[1])
    due = None if equal else np.random.default_rng(seed).uniform(0.2, 3.0, tasks).tolist()
    count = max(1, round(share * len(gradients)))
    relevance, information = weights
    settings = config(
        count,
        alpha=alpha,
        conflict_penalty=penalty,
        target_rule=rule,
        relevance_weight=relevance,
        information_weight=information,
    )
    given_rows = gradients.astype(np.float32) if single else gradients
    selection = ss.select(given_rows, settings, targets=targets, target_weights=due)
    picks, served, scores = twin.targeted_select(
        gradients,
        targets,
        rule=rule,
        count=count,
        relevance_weight=relevance,
        information_weight=information,
        penalty=penalty,
        alpha=alpha,
        weights=due,
    )
    assert selection.indices == picks
    assert selection.tasks == served
    np.testing.assert_allclose(selection.scores, scores, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("front", [4, 16])
@pytest.mark.parametrize("rule", ["matching", "relevance"])
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("dimension", [6, 60])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_small_front_makes_the_same_picks(monkeypatch, front, rule, tasks, dimension, eta):
    monkeypatch.setattr(active_set, "FRONT", front)
    monkeypatch.setattr(active_set, "COLUMNS", 3)
    gradients = twin.unit(pool(7, 300, dimension, duplicates=40, zeros=3, opposed=20))
    targets = target_rows(5, tasks, dimension)
    settings = config(120, conflict_penalty=0.1, target_rule=rule, information_weight=eta)
    picks, served, _ = twin.targeted_select(
        gradients, targets, rule=rule, count=120, penalty=0.1, information_weight=eta
    )
    selection = ss.select(gradients, settings, targets=targets)
    assert selection.indices == picks
    assert selection.tasks == served


@pytest.mark.parametrize("rule", ["matching", "relevance"])
@pytest.mark.parametrize("information", ["diagonal", "scalar"])
def test_one_target_of_a_surrogate_is_found_by_the_plain_lazy_greedy(rule, information):
    gradients, targets = pool(3, 60, 5), target_rows(3, 2, 5)
    # Nothing but the target counts, so that the form of information cannot matter.
    settings = config(20, information=information, information_weight=0.0, target_rule=rule)
    exact = config(20, information_weight=0.0, target_rule=rule)
    assert (
        ss.select(gradients, settings, targets=targets).indices == ss.select(gradients, exact, targets=targets).indices
    )


@pytest.mark.parametrize("rule", ["matching", "relevance"])
def test_gradients_too_long_for_subtraction_take_the_safe_way(rule):
    random = np.random.default_rng(4)
    gradients = random.standard_normal((40, 5)) * 10.0 ** random.uniform(-3, 5, (40, 1))
    targets = target_rows(4, 2, 5)
    settings = config(30, target_rule=rule, conflict_penalty=0.0)
    picks, _, _ = twin.targeted_select(gradients, targets, rule=rule, count=30)
    assert ss.select(gradients, settings, targets=targets).indices[:12] == picks[:12]


@pytest.mark.parametrize("rule", ["matching", "relevance"])
def test_the_span_holds_what_the_targets_say(rule):
    gradients, targets = pool(6, 80, 30), target_rows(6, 3, 30)
    settings = config(30, target_rule=rule, span=True, conflict_penalty=0.0)
    projected, others = twin.in_span(gradients, targets)
    picks, _, _ = twin.targeted_select(projected, others, rule=rule, count=30)
    assert ss.select(gradients, settings, targets=targets).indices == picks


@pytest.mark.parametrize("rule", ["matching", "relevance"])
def test_owned_rows_count_for_the_gain(rule):
    gradients, owned, targets = pool(9, 60, 5), pool(10, 7, 5), target_rows(9, 2, 5)
    picks, _, _ = twin.targeted_select(gradients, targets, rule=rule, count=20, owned=owned, penalty=0.1)
    settings = config(20, target_rule=rule, conflict_penalty=0.1)
    assert ss.select(gradients, settings, targets=targets, given=owned).indices == picks


@pytest.mark.parametrize("rule", ["matching", "relevance"])
def test_a_budget_in_tokens_is_filled_the_better_way(rule):
    gradients, targets = twin.unit(pool(8, 80, 6)), target_rows(8, 2, 6)
    costs = np.random.default_rng(8).integers(1, 40, 80)
    settings = SelectionConfig(budget=Budget(tokens=300), target_rule=rule)
    selection = ss.select(gradients, settings, targets=targets, costs=costs.tolist())
    assert selection.cost <= 300
    assert selection.tasks is not None


def test_weights_share_the_picks():
    gradients, targets = pool(2, 200, 10), target_rows(2, 3, 10)
    selection = ss.select(gradients, config(60), targets=targets, target_weights=[3, 2, 1])
    assert [selection.tasks.count(task) for task in range(3)] == [30, 20, 10]
    assert len(selection.relevances) == 60


def test_the_information_weight_without_targets_scales_the_gain():
    gradients = pool(1, 90, 8)
    plain = ss.select(gradients, config(30, conflict_penalty=0.4))
    scaled = ss.select(gradients, config(30, conflict_penalty=0.8, information_weight=2.0))
    assert scaled.indices == plain.indices
    np.testing.assert_allclose(scaled.scores, 2 * np.array(plain.scores), rtol=1e-12)
    matched = ss.select(gradients, config(30, matching_weight=1.0, conflict_penalty=0.1))
    weighted = ss.select(gradients, config(30, matching_weight=3.0, conflict_penalty=0.3, information_weight=3.0))
    assert matched.indices == weighted.indices


def test_whitening_leaves_zero_rows_alone_and_out_of_the_moments():
    gradients = pool(3, 50, 8)
    padded = np.concatenate([gradients, np.zeros((20, 8))])
    rows, _ = ss.whiten(gradients, block_sizes=[3, 5])
    more, _ = ss.whiten(padded, block_sizes=[3, 5])
    torch.testing.assert_close(more[:50], rows, rtol=0, atol=1e-14)
    assert bool((more[50:] == 0).all())


def test_a_layer_without_gradient_stays_without():
    gradients = pool(3, 50, 8)
    gradients[:, :3] = 0
    target = target_rows(3, 1, 8)
    rows, (whitened,) = ss.whiten(gradients, target, block_sizes=[3, 5])
    expected, (other,) = twin.whiten(gradients, target, [3, 5], 0.1)
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(whitened.numpy(), other, atol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"block_sizes": [3, 4]}, ConfigError),
        ({"block_sizes": []}, ConfigError),
        ({"block_sizes": [8], "damping": 0.0}, ConfigError),
        ({"block_sizes": [8], "damping": float("nan")}, ConfigError),
        ({"block_sizes": [8], "targets": [np.ones((2, 7))]}, PoolError),
    ],
)
def test_bad_whitening_is_refused(kwargs, error):
    with pytest.raises(error):
        ss.whiten(pool(1, 10, 8), kwargs.pop("targets", ()), **kwargs)


def test_a_pool_of_zeros_cannot_be_whitened():
    with pytest.raises(PoolError, match="zero"):
        ss.whiten(np.zeros((3, 4)), block_sizes=[4])


@pytest.mark.parametrize(
    ("targets", "weights", "kwargs", "pointer"),
    [
        ([np.ones((2, 4))], None, {}, "#/targets/0"),
        ([np.ones((2, 5)), np.zeros((2, 5))], None, {}, "#/targets/1"),
        ([np.concatenate([np.eye(5), -np.eye(5)])], None, {}, "#/targets/0"),
        ([np.ones((2, 5))] * 2, [1.0, 0.0], {}, "#/targets/1"),
        ([np.ones((2, 5))] * 2, [float("nan"), 1.0], {}, "#/targets/0"),
        ([np.ones((2, 5))] * 2, [1.0], {}, "#/target_weights"),
        ([np.ones((2, 5))], None, {"matching_weight": 1.0}, "#/matching_weight"),
        ([np.ones((2, 5))], None, {"relevance_weight": 0.0}, "#/relevance_weight"),
        ([np.ones((2, 5))], None, {"scope": {"kind": "windows"}}, "#/scope/kind"),
    ],
)
def test_bad_targets_are_refused_with_a_pointer(targets, weights, kwargs, pointer):
    settings = SelectionConfig.model_validate({"budget": {"count": 3}, **kwargs})
    with pytest.raises((ConfigError, PoolError)) as caught:
        ss.select(pool(1, 10, 5), settings, targets=targets, target_weights=weights)
    assert [error["pointer"] for error in caught.value.errors] == [pointer]


def test_every_order_of_a_small_pool_gives_the_same_rows():
    gradients, targets = pool(5, 5, 3), target_rows(5, 2, 3)
    for order in permutations(range(5)):
        selection = ss.select(gradients[list(order)], config(3), targets=targets)
        assert [order[row] for row in selection.indices] == ss.select(gradients, config(3), targets=targets).indices


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("eta", [0.0, 0.3, 3.0])
def test_no_set_of_as_many_rows_for_each_target_passes_the_bound(seed, eta):
    gradients, targets = pool(seed, 7, 4, duplicates=1, opposed=1), target_rows(seed, 2, 4)
    weights = {"relevance_weight": 1.0, "information_weight": eta, "penalty": 0.5, "alpha": 2.0}
    settings = config(3, target_rule="relevance", conflict_penalty=0.5, information_weight=eta, alpha=2.0)
    selection = ss.select(gradients, settings, targets=targets)
    value = twin.relevance_objective(gradients, targets, selection.indices, selection.tasks, **weights)
    assert selection.objective == pytest.approx(value, rel=1e-9)
    best = max(
        twin.relevance_objective(gradients, targets, rows, [0, 1, 0], **weights) for rows in permutations(range(7), 3)
    )
    assert best <= selection.objective_bound + 1e-9
    # The greedy set is near the best of so few, so a bound that said nothing would lie far above.
    assert selection.objective_bound <= best + 3.0 * max(1.0, eta)
