"""What picks took from quadratic forms: exact in float64, and from below in float32."""

import numpy as np
import pytest
import torch

from spice_select.config import Budget, SelectionConfig
from spice_select.selection.lowrank import CHUNK, LowRankUpdates, single_error
from spice_select.selection.select import select

WIDTHS = [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]


def taken_one_by_one(rows, directions, stamps, until):
    return [
        sum(float(row @ directions[number]) ** 2 for number in range(int(stamp), until))
        for row, stamp in zip(rows, stamps, strict=True)
    ]


def made(directions, *, single=True):
    table = LowRankUpdates(directions.shape[1], torch.device("cpu"), single=single)
    for part in torch.split(directions, 7):
        table.append(part)
    return table


def case(seed, d, *, rows=20, count=30, spread=0.0):
    random = np.random.default_rng(seed)
    lengths = 10.0 ** random.uniform(-spread, spread, (rows, 1)) / np.sqrt(d)
    gradients = torch.from_numpy((random.standard_normal((rows, d)) * lengths).astype(np.float32))
    directions = torch.from_numpy(random.standard_normal((count, d)) / np.sqrt(d) * random.uniform(0, 1, (count, 1)))
    stamps = torch.from_numpy(random.integers(0, count + 1, rows))
    return gradients, directions, stamps


@pytest.mark.parametrize("d", WIDTHS)
def test_taken_equals_the_sum_over_the_directions_that_count(d):
    gradients, directions, stamps = case(d, d)
    for until in (0, 12, 30):
        expected = taken_one_by_one(gradients.double(), directions, stamps, until)
        found = made(directions, single=False).taken(gradients.double(), stamps, until)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("spread", [0.0, 9.0])
@pytest.mark.parametrize("d", WIDTHS)
def test_the_float32_bound_is_below_what_was_taken_and_close_to_it(d, spread):
    gradients, directions, stamps = case(d + 1, d, spread=spread)
    norms = gradients.double().square().sum(dim=1)
    for until in (12, 30):
        table = made(directions)
        exact = table.taken(gradients.double(), stamps, until)
        least = table.taken_at_least(gradients, norms, stamps, until)
        slack = 2 * single_error(d) * (norms * directions.square().sum() * exact).sqrt() * 2
        assert bool((least <= exact).all())
        assert bool((least >= exact - slack).all())


def test_sums_that_float32_rounds_up_at_every_step_stay_below():
    """A first product that swallows half of every later one and rounds it up: plain float32 is far too large."""
    d = CHUNK
    gradients = torch.full((1, d), 2.0**-12 * 1.2)
    gradients[0, 0] = 1.0
    directions = gradients.double() / 1.3
    norms, stamps = gradients.double().square().sum(dim=1), torch.zeros(1, dtype=torch.int64)
    exact = float(made(directions).taken(gradients.double(), stamps, 1))
    in_order = np.cumsum((gradients * directions.float())[0].numpy(), dtype=np.float32)[-1]
    assert abs(float(in_order) ** 2 - exact) > 1e-9 * exact, "float32 has to round here, or the case shows nothing"
    assert float(made(directions).taken_at_least(gradients, norms, stamps, 1)) <= exact
    assert abs(float(in_order) - exact**0.5) <= single_error(d) * float(norms) / 1.3


def test_without_the_bound_on_rounding_float32_would_overstate():
    """The comparison above can fail: products of float32 alone are larger than the true ones about half of the time."""
    gradients, directions, stamps = case(3, 3 * CHUNK, rows=200)
    table = made(directions)
    exact = table.taken(gradients.double(), stamps, 30)
    table._error = 0.0
    norms = gradients.double().square().sum(dim=1)
    assert bool((table.taken_at_least(gradients, norms, stamps, 30) > exact).any())


def test_dropped_directions_leave_the_others_as_they_are():
    gradients, directions, stamps = case(5, 40)
    table, stamps = made(directions), stamps.clamp(min=18)
    before = table.taken(gradients.double(), stamps, 30)
    norms = gradients.double().square().sum(dim=1)
    least = table.taken_at_least(gradients, norms, stamps, 30)
    table.drop_before(17)
    assert (table.first, table.count, len(table.kept)) == (17, 30, 13)
    table.append(directions[:3])
    torch.testing.assert_close(table.taken(gradients.double(), stamps, 30), before)
    torch.testing.assert_close(table.taken_at_least(gradients, norms, stamps, 30), least, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(("n", "d", "count"), [(500, 600, 120), (300, 40, 150)])
def test_with_and_without_float32_the_picks_and_their_evidence_are_the_same(n, d, count, dtype):
    random = np.random.default_rng(n)
    gradients = (random.standard_normal((n, 8)) @ random.standard_normal((8, d)) + random.standard_normal((n, d))) / d
    gradients = gradients.astype(dtype)
    config = SelectionConfig(budget=Budget(count=count), alpha=d / 4)
    screened = select(gradients, config)
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # float32 products may now be cut: they must not be used
    try:
        exact = select(gradients, config)
    finally:
        torch.set_float32_matmul_precision(kept)
    assert screened.indices == exact.indices
    np.testing.assert_allclose(screened.gains, exact.gains, rtol=1e-9)
    np.testing.assert_allclose(screened.conflicts, exact.conflicts, rtol=1e-7, atol=1e-10)
    assert screened.certificate.ratio == pytest.approx(exact.certificate.ratio, rel=1e-6)
