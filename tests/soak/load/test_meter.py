"""The slope that ``make load`` prints is of one life of a worker's child: a new child begins with less memory."""

from __future__ import annotations

import pytest

from tests.soak.load.meter import Series


def test_a_replaced_child_does_not_hide_that_memory_grows() -> None:
    seconds = [float(second) for second in range(30)]
    memory = [500.0 + second for second in range(20)] + [100.0 + second for second in range(10)]
    families: list[tuple[int, ...]] = [(1, 2)] * 20 + [(1, 3)] * 10
    series = Series(seconds, memory, [1] * 30, families)
    assert series.life.seconds == seconds[:20]
    assert series.slope == pytest.approx(60.0)


def test_what_a_worker_loads_at_first_is_no_slope() -> None:
    memory = [100.0 * min(second, 5) for second in range(20)]
    assert Series([float(second) for second in range(20)], memory, [1] * 20, [(1,)] * 20).slope == pytest.approx(0.0)


def test_nothing_seen_has_no_slope() -> None:
    assert Series().slope == pytest.approx(0.0)
