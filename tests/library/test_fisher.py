"""The inverse Fisher matrix of a growing set, in the space of picks and in the space of features."""

import math
from collections import deque

import mpmath
import numpy as np
import pytest
import torch

from spice_select.selection.active_block import ActiveBlock, absorb
from spice_select.selection.active_set import ActiveSet
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.logdet import (
    FisherLogDet,
    PrecisionLostError,
    capacitance,
    log_determinant,
    stable_factor,
    whiten,
)
from spice_select.selection.scoring import Rule
from spice_select.selection.whitened_rows import WhitenedRows


def rows(seed, n, d):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def explicit_inverse(chosen, alpha):
    return torch.linalg.inv(torch.eye(chosen.shape[1], dtype=torch.float64) + alpha * chosen.T @ chosen)


@pytest.mark.parametrize(("m", "d"), [(1, 1), (3, 8), (8, 3), (40, 40)])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
def test_utility_equals_slogdet_of_the_feature_matrix(m, d, alpha):
    chosen = rows(m * d, m, d)
    expected = np.linalg.slogdet(np.eye(d) + alpha * chosen.numpy().T @ chosen.numpy())[1]
    assert log_determinant(chosen, alpha) == pytest.approx(expected, rel=1e-10)
    assert np.linalg.slogdet(capacitance(chosen, alpha).numpy())[1] == pytest.approx(expected, rel=1e-10)


def test_utility_of_nothing_is_zero():
    assert log_determinant(torch.empty(0, 5, dtype=torch.float64), 1.0) == pytest.approx(0.0, abs=0)


@pytest.mark.parametrize("seed", range(4))
def test_utility_of_very_unequal_lengths_equals_arithmetic_of_eighty_digits(seed):
    random = np.random.default_rng(seed)
    chosen = random.standard_normal((7, 4)) * 10.0 ** random.uniform(-12, 12, (7, 1))
    chosen[3] = chosen[0]
    with mpmath.workdps(80):
        exact = mpmath.matrix(chosen.tolist())
        expected = float(mpmath.log(mpmath.det(mpmath.eye(4) + exact.T * exact)))
    assert log_determinant(torch.from_numpy(chosen), 1.0) == pytest.approx(expected, rel=1e-9)


def test_a_factor_that_rounding_would_spoil_is_not_used():
    assert stable_factor(torch.diag(torch.tensor([1.0, 1e9], dtype=torch.float64))) is not None
    assert stable_factor(torch.diag(torch.tensor([1.0, 1e11], dtype=torch.float64))) is None
    assert stable_factor(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)) is None


@pytest.mark.parametrize("alpha", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("count", [1, 5, 12, 20, 90])
def test_projection_equals_the_explicit_inverse_before_and_beyond_the_dimension(count, alpha):
    chosen, others = rows(count, count, 12), rows(1, 30, 12)
    fisher, total = FisherLogDet(12, alpha, torch.device("cpu")), torch.zeros(12, dtype=torch.float64)
    for part in torch.split(chosen, 7):
        absorb(part, fisher, total)
    assert fisher.count == count
    torch.testing.assert_close(total, chosen.sum(dim=0))
    torch.testing.assert_close(fisher.project(others), others @ explicit_inverse(chosen, alpha), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("alpha", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("count", [3, 12, 90])
def test_forms_of_different_ages_come_up_to_date_together(count, alpha):
    chosen, others = rows(count, count, 12), rows(1, 40, 12)
    fisher, total = FisherLogDet(12, alpha, torch.device("cpu")), torch.zeros(12, dtype=torch.float64)
    past = [others.square().sum(dim=1)]
    for row in chosen:
        absorb(row[None], fisher, total)
        past.append((others * (others @ explicit_inverse(chosen[: len(past)], alpha))).sum(dim=1))
    ages = torch.from_numpy(np.random.default_rng(2).integers(0, count + 1, 40))
    forms = torch.stack([past[count - int(age)][i] for i, age in enumerate(ages)])
    if fisher.can_start_afresh(0):
        torch.testing.assert_close(fisher.forms(others), past[-1], rtol=1e-8, atol=1e-11)
        ages.clamp_(max=12)
        forms = torch.stack([past[count - int(age)][i] for i, age in enumerate(ages)])
    for until in (count - 2, count):  # in two steps, where what is newer than the first stays
        stamps = count - ages
        forms = fisher.lowered(forms, stamps, others, until)
        expected = torch.stack([past[max(until, int(stamp))][i] for i, stamp in enumerate(stamps)])
        torch.testing.assert_close(forms, expected, rtol=1e-8, atol=1e-11)
        ages.clamp_(max=count - until)


def test_a_window_is_current_after_every_pick_and_the_same_however_it_is_cut():
    pool = rows(4, 20, 9)
    norms = pool.square().sum(dim=1)
    fisher, total = FisherLogDet(9, 2.0, torch.device("cpu")), torch.zeros(9, dtype=torch.float64)
    chosen = []
    for places in ([3, 7, 3], [1], [19, 0, 5, 11, 2, 8]):
        window = ActiveBlock(pool, norms, None, fisher, total, len(places))
        window.add_columns(torch.tensor(sorted(set(places))))
        for place in places:
            window.refresh(torch.tensor([place]))
            window.pick(place)
            chosen.append(place)
            expected = (pool * (pool @ explicit_inverse(pool[chosen], 2.0))).sum(dim=1)
            window.refresh(torch.arange(20))
            torch.testing.assert_close(window.forms, expected, rtol=1e-9, atol=1e-12)
            mean = pool[chosen].mean(dim=0)
            against = torch.clamp(-(pool @ mean) / (norms.sqrt() * mean.norm() + 1e-8), min=0.0)
            torch.testing.assert_close(window.conflicts(), against)
        assert window.is_full
        window.flush()


@pytest.mark.parametrize("d", [5, 40])
def test_a_window_in_the_space_of_picks_stays_right_while_its_candidates_change(d):
    pool, random = rows(d, 60, d), np.random.default_rng(d)
    norms = pool.square().sum(dim=1)
    fisher = FisherLogDet(d, 2.0, torch.device("cpu"), features_from=1000)
    total = torch.zeros(d, dtype=torch.float64)
    here, chosen = torch.arange(12), []
    window = ActiveBlock(pool[here].clone(), norms[here], norms[here].clone(), fisher, total, 4, in_picks=True)
    for turn in range(9):
        for _ in range(1 + turn % 4):
            place = int(random.integers(12))
            for places in (torch.tensor([place]), torch.tensor(random.choice(12, 3, replace=False))):
                if bool((~window.exact[places]).any()):
                    window.fill(places[~window.exact[places]])
                window.refresh(places)
                expected = (pool @ explicit_inverse(pool[chosen], 2.0) * pool).sum(dim=1)[here]
                torch.testing.assert_close(window.forms[places], expected[places], rtol=1e-9, atol=1e-12)
                assert bool((window.forms >= expected - 1e-9).all())
            if window.column_of[place] < 0:
                window.add_columns(torch.tensor([place]))
            window.pick(place)
            chosen.append(int(here[place]))
            mean = pool[chosen].mean(dim=0)
            against = torch.clamp(-(pool[here] @ mean) / (norms[here].sqrt() * mean.norm() + 1e-8), min=0.0)
            torch.testing.assert_close(window.conflicts(), against)
            assert window.conflict_of(place) == pytest.approx(float(against[place]))
        if bool(window.exact.any()):
            window.refresh(torch.nonzero(window.exact).flatten())
        window.flush()
        inverse = explicit_inverse(pool[chosen], 2.0)
        torch.testing.assert_close(fisher.project(pool), pool @ inverse, rtol=1e-9, atol=1e-11)
        outside = torch.tensor([row for row in range(60) if row not in here])
        new, places = outside[torch.randperm(len(outside))[:5]], torch.tensor(random.choice(12, 5, replace=False))
        here[places] = new
        window.replace(places, pool[new], norms[new], (pool[new] @ inverse * pool[new]).sum(dim=1) + 0.1)


@pytest.mark.parametrize("information", [1e-20, 1.0, 1e20])
def test_whitening_shrinks_one_direction_and_leaves_the_rest(information):
    vectors, unit = rows(3, 6, 5), torch.nn.functional.normalize(rows(4, 1, 5)[0], dim=0)
    whitened = whiten(vectors, unit, information)
    torch.testing.assert_close(whitened @ unit, (vectors @ unit) / math.sqrt(1.0 + information), rtol=1e-9, atol=1e-15)
    rest = torch.eye(5, dtype=torch.float64) - torch.outer(unit, unit)
    torch.testing.assert_close(whitened @ rest, vectors @ rest)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
def test_whitened_rows_have_the_gains_of_the_explicit_inverse(alpha):
    pool = rows(8, 25, 6)
    information = WhitenedRows(GradientMatrix(pool), alpha)
    for step, row in enumerate([4, 9, 4, 0, 20, 13, 2, 5, 7, 1]):
        chosen = pool[[4, 9, 4, 0, 20, 13, 2, 5, 7, 1][:step]]
        expected = torch.log1p(alpha * (pool * (pool @ explicit_inverse(chosen, alpha))).sum(dim=1))
        some = torch.tensor([1, 4, 5 + step, 24])
        torch.testing.assert_close(information.gains(some), expected[some], rtol=1e-9, atol=1e-13)
        information.add(pool[row])


@pytest.mark.parametrize("places", [1, 2, 3, 7, 24])
def test_whitened_rows_that_had_to_make_room_begin_anew(places, monkeypatch):
    pool = rows(8, 25, 6)
    everything = WhitenedRows(GradientMatrix(pool), 2.0)
    monkeypatch.setattr("spice_select.selection.whitened_rows.KEPT_BYTES", places * 6 * 8)
    information = WhitenedRows(GradientMatrix(pool), 2.0)
    draw = torch.Generator().manual_seed(places)
    for row in [4, 9, 4, 0, 20, 13, 2, 5, 7, 1]:
        for size in (1, 2, 5, 12):
            some = torch.randperm(25, generator=draw)[:size]
            torch.testing.assert_close(information.gains(some), everything.gains(some), rtol=1e-12, atol=1e-15)
        information.add(pool[row])
        everything.add(pool[row])
    assert information._kept.shape == (places, 6)


@pytest.mark.parametrize(("scale", "alpha"), [(1.0, 1.0), (30.0, 1.0), (1.0, 1e3), (100.0, 1.0)])
def test_estimated_rounding_covers_the_true_one(scale, alpha):
    pool = rows(6, 160, 24) * scale
    front = ActiveSet(GradientMatrix(pool), alpha, Rule(0.0), torch.full((160,), -1))
    allowed, chosen = torch.ones(160, dtype=torch.bool), []
    for _ in range(80):
        proposal = front.propose(allowed)
        front.accept(proposal)
        allowed[proposal.row] = False
        chosen.append(proposal.row)
    bounds = front.upper_bounds(torch.tensor(chosen))
    with mpmath.workdps(50):
        exact = mpmath.matrix(pool[chosen].tolist())
        inverse = (mpmath.eye(24) + alpha * exact.T * exact) ** -1
        for row in torch.nonzero(allowed).flatten()[:25].tolist():
            g = mpmath.matrix(pool[row].tolist())
            assert float(bounds[row]) >= float(mpmath.log1p(alpha * (g.T * inverse * g)[0]))


def test_gradients_too_long_to_subtract_are_noticed():
    pool = rows(6, 30, 3) * 1e8
    front = ActiveSet(GradientMatrix(pool), 1.0, Rule(0.0), torch.full((30,), -1))
    allowed = torch.ones(30, dtype=torch.bool)

    def pick():
        proposal = front.propose(allowed)
        front.accept(proposal)
        allowed[proposal.row] = False

    pick()
    with pytest.raises(PrecisionLostError):
        deque(pick() for _ in range(10))
