"""The same picks whatever rounding has done to the rows: ties within their precision, the lower row, margins."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.config import Budget, SelectionConfig
from spice_select.selection.gradient_matrix import DOUBLE_TIE, SINGLE_TIE, GradientMatrix
from spice_select.selection.select import select
from tests.fixtures.examples import examples
from tests.library.test_greedy import pool
from tests.reference.selection import dense_select

cases = settings(max_examples=examples(60))


def config(count, **kwargs):
    return SelectionConfig(budget=Budget(count=count), **kwargs)


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "d"), [(60, 8), (400, 40)])
@pytest.mark.parametrize("information", ["logdet", "diagonal"])
def test_where_all_rows_are_of_length_one_the_first_pick_is_the_first_row(seed, n, d, information):
    rows = unit(pool(seed, n, d)).astype(np.float32)
    assert select(rows, config(5, information=information)).indices[0] == 0
    assert select(rows[::-1].copy(), config(5, information=information)).indices[0] == 0


@cases
@given(seed=st.integers(0, 2**32 - 1), penalty=st.sampled_from([0.0, 0.1]), planted=st.integers(0, 20))
def test_rows_that_differ_by_less_than_float32_tie_as_in_the_definition(seed, penalty, planted):
    random = np.random.default_rng(seed)
    rows = unit(pool(seed, 30, 10))
    for _ in range(planted):
        source, target = random.choice(30, 2, replace=False)
        rows[target] = rows[source] * (1 + 1e-7 * random.standard_normal())
    rows = rows.astype(np.float32)
    selection = select(rows, config(12, conflict_penalty=penalty))
    expected = dense_select(rows.astype(np.float64), alpha=1.0, penalty=penalty, count=12, tie=SINGLE_TIE)[0]
    assert selection.indices == expected


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(40, 64), (200, 64), (300, 32)]),
    settings_=st.sampled_from(
        [{}, {"conflict_penalty": 0.0}, {"information": "diagonal"}, {"matching_weight": 1.0}, {"alpha": 10.0}]
    ),
)
def test_noise_of_1e_minus_6_changes_no_pick_before_one_that_is_reported_as_undecided(seed, shape, settings_):
    random, (n, d) = np.random.default_rng(seed), shape
    rows = unit(random.standard_normal((n, d)))
    noisy = unit(rows * (1 + 1e-6 * random.uniform(-1, 1, (n, d))))
    first, second = (select(each.astype(np.float32), config(20, **settings_)) for each in (rows, noisy))
    for pick in range(20):
        if first.indices[pick] != second.indices[pick]:
            assert first.margins[pick] < 2 * SINGLE_TIE * size_of_terms(first, pick, settings_)
            assert first.undecided > 0
            break


def size_of_terms(selection, pick, settings_):
    gain, conflict = selection.gains[pick], selection.conflicts[pick]
    matching = abs(selection.scores[pick] - gain) + 4 * (pick + 1) if "matching_weight" in settings_ else 0.0
    return gain + conflict + matching


def test_a_margin_above_the_tolerance_is_decided_by_the_scores():
    rows = np.eye(4, dtype=np.float32) * np.array([[1.0], [1.0 + 5e-5], [1.0], [0.5]], dtype=np.float32)
    selection = select(rows, config(3, conflict_penalty=0.0))
    assert selection.indices == [1, 0, 2]
    assert selection.margins[0] == pytest.approx(5e-5, rel=0.02)
    assert selection.margins[1] == pytest.approx(0.0, abs=1e-12)
    assert selection.undecided == 1
    assert math.isfinite(selection.margins[2])


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    settings_=st.sampled_from(
        [{}, {"conflict_penalty": 0.0}, {"information": "diagonal"}, {"matching_weight": 1.0}, {"alpha": 0.01}]
    ),
)
def test_of_two_rows_that_differ_by_what_the_batch_does_to_them_the_lower_is_picked_first(seed, settings_):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((80, 24))
    rows[random.permutation(40) + 40] = rows[:40]
    # Lengths of real gradients differ by up to 2.38e-6 between batches of 2,048 and of 512 tokens.
    twins = {tuple(np.flatnonzero((rows == row).all(axis=1))) for row in rows[:40]}
    noisy = rows * (1 + 2.3e-6 * random.uniform(-1, 1, (80, 1)))
    picks = select(noisy.astype(np.float32), config(60, **settings_)).indices
    place = {row: number for number, row in enumerate(picks)}
    assert all(place.get(low, 80) <= place.get(high, 80) for low, high in twins)


def test_the_tolerance_knows_how_rows_are_stored():
    rows = torch.ones(2, 4096, dtype=torch.float64)
    assert GradientMatrix(rows).tie == DOUBLE_TIE
    assert GradientMatrix(rows.float()).tie == SINGLE_TIE
    assert GradientMatrix(rows.half()).tie == pytest.approx(8 * 2.0**-11 / 64)
    assert GradientMatrix(rows.bfloat16()).tie == pytest.approx(8 * 2.0**-8 / 64)
    assert GradientMatrix(rows).whitened(lambda block: block).tie == SINGLE_TIE
