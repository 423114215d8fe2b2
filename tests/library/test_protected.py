"""Protected sets against their definition: what a row pays, the picks, the bound and the report."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spice_select as ss
from spice_select.config import Budget, SelectionConfig
from spice_select.errors import ConfigError, PoolError
from spice_select.selection import active_set, kernel_columns
from tests.library.test_greedy import pool
from tests.library.test_targets import target_rows
from tests.reference import targeted as twin
from tests.reference.selection import matching_select

cases = settings(max_examples=150)
counts = st.integers(0, 6)
some = st.tuples(st.integers(1, 30), st.integers(1, 12))


def config(count, **kwargs):
    return SelectionConfig(budget=Budget(count=count), **kwargs)


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=some,
    duplicates=counts,
    zeros=counts,
    opposed=counts,
    tasks=st.integers(1, 3),
    sets=st.integers(1, 8),
    rule=st.sampled_from(["matching", "relevance"]),
    weights=st.tuples(st.sampled_from([0.0, 0.1, 1.0, 30.0]), st.sampled_from([0.0, 0.3, 3.0])),
    penalty=st.sampled_from([0.0, 0.5]),
    share=st.floats(0.05, 1.0),
    span=st.booleans(),
)
def test_with_targets_equals_the_definition_pick_for_pick(
    seed, shape, duplicates, zeros, opposed, tasks, sets, rule, weights, penalty, share, span
):
    gradients = pool(seed, *shape, duplicates=duplicates, zeros=zeros, opposed=opposed)
    targets, protect = target_rows(seed, tasks, shape[1]), target_rows(seed + 1, sets, shape[1])
    count = max(1, round(share * len(gradients)))
    paid = twin.charges(gradients, protect, weights[0])
    selection = ss.select(
        gradients,
        config(
            count,
            target_rule=rule,
            conflict_penalty=penalty,
            information_weight=weights[1],
            protect_weight=weights[0],
            span=span,
        ),
        targets=targets,
        protect=protect,
    )
    rows, wanted = twin.in_span(gradients, targets) if span else (gradients, targets)
    picks, served, scores = twin.targeted_select(
        rows,
        wanted,
        rule=rule,
        count=count,
        information_weight=weights[1],
        penalty=penalty,
        charges=paid,
    )
    assert selection.indices == picks
    assert selection.tasks == served
    np.testing.assert_allclose(selection.scores, scores, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(selection.charges, np.array(paid)[picks], rtol=1e-9, atol=1e-12)


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=some,
    duplicates=counts,
    zeros=counts,
    opposed=counts,
    sets=st.integers(1, 3),
    weight=st.sampled_from([0.1, 1.0, 30.0]),
    matching=st.sampled_from([0.0, 1.0]),
    penalty=st.sampled_from([0.0, 0.5]),
    share=st.floats(0.05, 1.0),
)
def test_without_a_target_equals_the_definition_pick_for_pick(
    seed, shape, duplicates, zeros, opposed, sets, weight, matching, penalty, share
):
    gradients = pool(seed, *shape, duplicates=duplicates, zeros=zeros, opposed=opposed)
    protect = target_rows(seed + 1, sets, shape[1])
    count = max(1, round(share * len(gradients)))
    paid = twin.charges(gradients, protect, weight)
    settings = config(count, conflict_penalty=penalty, matching_weight=matching, protect_weight=weight)
    selection = ss.select(gradients, settings, protect=protect)
    picks, _, scores = matching_select(
        gradients, alpha=1.0, penalty=penalty, weight=matching, count=count, charges=paid
    )
    assert selection.indices == picks
    np.testing.assert_allclose(selection.scores, scores, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("front", [4, 64])
@pytest.mark.parametrize("rule", ["matching", "relevance", None])
@pytest.mark.parametrize("dimension", [6, 60])
def test_every_engine_makes_the_same_picks(monkeypatch, kernel, front, rule, dimension):
    monkeypatch.setattr(active_set, "FRONT", front)
    monkeypatch.setattr(kernel_columns, "SINGLE_BYTES", 2**40 if kernel else 0)
    gradients = twin.unit(pool(7, 300, dimension, duplicates=40, zeros=3, opposed=20))
    targets, protect = target_rows(5, 3, dimension), target_rows(6, 2, dimension)
    paid = twin.charges(gradients, protect, 1.0)
    assert 100 < np.count_nonzero(paid) < 300
    if rule is None:
        settings, wanted = config(80, matching_weight=1.0), None
        picks = matching_select(gradients, alpha=1.0, penalty=0.1, weight=1.0, count=80, charges=paid)[0]
    else:
        settings, wanted = config(80, target_rule=rule), targets
        picks = twin.targeted_select(gradients, targets, rule=rule, count=80, penalty=0.1, charges=paid)[0]
    assert ss.select(gradients, settings, targets=wanted, protect=protect).indices == picks


@pytest.mark.parametrize("information", ["diagonal", "scalar"])
def test_surrogates_pay_as_well(information):
    gradients, protect = pool(3, 60, 5), target_rows(3, 2, 5)
    # Nothing but the charge counts, so that the form of information cannot matter.
    settings = config(20, information=information, information_weight=0.0, conflict_penalty=0.0)
    paid = twin.charges(gradients, protect, 1.0)
    order = sorted(range(60), key=lambda row: (round(paid[row], 12), row))
    assert ss.select(gradients, settings, protect=protect).indices == order[:20]


@pytest.mark.parametrize("seed", range(8))
def test_no_set_passes_the_bound(seed):
    gradients, targets = pool(seed, 7, 4, duplicates=1, opposed=1), target_rows(seed, 2, 4)
    protect = target_rows(seed + 20, 2, 4)
    paid = twin.charges(gradients, protect, 2.0)
    weights = {"relevance_weight": 1.0, "information_weight": 0.3, "penalty": 0.5, "alpha": 2.0, "charges": paid}
    settings = config(
        3, target_rule="relevance", conflict_penalty=0.5, information_weight=0.3, alpha=2.0, protect_weight=2.0
    )
    selection = ss.select(gradients, settings, targets=targets, protect=protect)
    value = twin.relevance_objective(gradients, targets, selection.indices, selection.tasks, **weights)
    assert selection.objective == pytest.approx(value, rel=1e-9)
    best = max(
        twin.relevance_objective(gradients, targets, rows, [0, 1, 0], **weights) for rows in permutations(range(7), 3)
    )
    assert best <= selection.objective_bound + 1e-9


def test_the_report_counts_rows_against_each_set_beside_the_pool():
    gradients, protect = pool(4, 50, 6), target_rows(4, 2, 6)
    free = ss.select(gradients, config(10, protect_weight=0.0), protect=protect, exclude=[0, 7])
    held = ss.select(gradients, config(10, protect_weight=10.0), protect=protect, exclude=[0, 7])
    assert free.indices == ss.select(gradients, config(10), exclude=[0, 7]).indices
    for number, rows in enumerate(protect):
        mean = rows.mean(axis=0)
        cosines = gradients @ mean / np.linalg.norm(gradients, axis=1) / np.linalg.norm(mean)
        allowed = np.delete(cosines, [0, 7])
        report = free.opposition[number]
        assert (report.pool.rows, report.pool.against) == (48, int((allowed < 0).sum()))
        assert report.pool.worst_cosine == pytest.approx(allowed.min(), rel=1e-6)
        assert report.selected.against == int((cosines[free.indices] < 0).sum())
        assert report.selected.mean_cosine == pytest.approx(cosines[free.indices].mean(), rel=1e-6)
    against = [sum(report.selected.against for report in one.opposition) for one in (free, held)]
    assert against[1] < against[0]


def test_a_zero_row_opposes_nothing():
    gradients = np.concatenate([np.zeros((1, 4)), pool(1, 6, 4)])
    selection = ss.select(gradients, config(7, protect_weight=5.0), protect=target_rows(1, 1, 4))
    assert not selection.charges[selection.indices.index(0)]


@pytest.mark.parametrize("rule", ["matching", "relevance", None])
@pytest.mark.parametrize("seed", range(6))
def test_a_token_budget_keeps_the_better_filling(rule, seed):
    gradients, protect = twin.unit(pool(seed, 60, 6)), target_rows(seed + 1, 2, 6)
    targets = None if rule is None else target_rows(seed, 2, 6)
    costs = np.random.default_rng(seed).integers(1, 40, 60)
    settings = SelectionConfig(budget=Budget(tokens=200), target_rule=rule or "matching")
    selection = ss.select(gradients, settings, targets=targets, protect=protect, costs=costs.tolist())
    paid = twin.charges(gradients, protect, 1.0)
    worth = {}
    for per_token in (False, True):
        worth[per_token] = filled(gradients, targets, rule, costs, paid, per_token=per_token)
    best = max(worth.values(), key=lambda one: one[1])
    assert selection.indices == best[0]
    assert sum(costs[selection.indices]) <= 200


def filled(gradients, targets, rule, costs, paid, *, per_token):
    """A budget of 200 tokens filled by definition, and what the filling is worth."""
    left, chosen, worth = 200, [], 0.0
    means = [] if targets is None else [rows.mean(axis=0) for rows in targets]
    sums, done = [np.zeros(6) for _ in means], [0 for _ in means]
    fisher = np.eye(6)
    while True:
        task = twin.next_task([1.0] * len(means), done) if means else None
        scores = {}
        for row in (row for row in range(60) if row not in chosen and costs[row] <= left):
            g = gradients[row]
            score = np.log1p(g @ np.linalg.inv(fisher) @ g) - paid[row]
            if task is None:
                center = gradients[chosen].mean(axis=0) if chosen else np.zeros(6)
                score -= 0.1 * max(0.0, -(g @ center) / (np.linalg.norm(center) + 1e-8))
            else:
                mean = means[task]
                wanted = (done[task] + 1) * mean - sums[task] if rule == "matching" else mean
                score += g @ wanted / np.linalg.norm(mean) - 0.1 * max(0.0, -(g @ mean) / np.linalg.norm(mean))
            scores[row] = score / (costs[row] if per_token else 1)
        if not scores:
            break
        row = max(scores, key=lambda one: (round(scores[one], 11), -one))
        worth += scores[row] * (costs[row] if per_token else 1)
        fisher = fisher + np.outer(gradients[row], gradients[row])
        chosen.append(row)
        left -= costs[row]
        if task is not None:
            sums[task] = sums[task] + gradients[row]
            done[task] += 1
    if not means:
        worth = np.linalg.slogdet(fisher)[1] - sum(paid[row] for row in chosen)
    return chosen, worth


@pytest.mark.parametrize(
    ("protect", "kwargs", "pointer"),
    [
        ([np.ones((2, 4))], {}, "#/protect/0"),
        ([np.ones((2, 5)), np.zeros((2, 5))], {}, "#/protect/1"),
        ([np.concatenate([np.eye(5), -np.eye(5)])], {}, "#/protect/0"),
        ([np.eye(5)[:2], np.eye(5)[2:]], {"targets": [np.eye(5)[2:]]}, "#/protect/1"),
        ([np.full((1, 5), number + 1.0) for number in range(9)], {}, "#/protect"),
        ([np.ones((2, 5))], {"method": "random"}, "#/protect"),
        ([np.ones((2, 5))], {"method": "less", "targets": [np.eye(5)]}, "#/protect"),
        ([np.ones((2, 5))], {"scope": {"kind": "windows"}}, "#/scope/kind"),
    ],
)
def test_bad_protected_sets_are_refused_with_a_pointer(protect, kwargs, pointer):
    targets = kwargs.pop("targets", None)
    settings = SelectionConfig.model_validate({"budget": {"count": 3}, **kwargs})
    with pytest.raises((ConfigError, PoolError)) as caught:
        ss.select(pool(1, 10, 5), settings, targets=targets, protect=protect)
    assert [error["pointer"] for error in caught.value.errors] == [pointer]


def test_one_set_may_be_given_without_a_list():
    gradients, protect = torch.from_numpy(pool(1, 20, 5)), torch.from_numpy(target_rows(1, 1, 5)[0])
    one = ss.select(gradients, config(5), protect=protect)
    assert one.indices == ss.select(gradients, config(5), protect=[protect]).indices
    assert len(one.opposition) == 1
    assert ss.select(gradients, config(5), protect=[]).opposition is None
