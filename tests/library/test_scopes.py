"""Pools cut into windows and parts, against the plain ``select`` on each piece."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from spice_select.config import Budget, GlobalScope, PartitionedScope, Quotas, Scope, SelectionConfig, WindowsScope
from spice_select.errors import BudgetError, ConfigError
from spice_select.selection.baselines import random_order
from spice_select.selection.partitions import part_rows
from spice_select.selection.select import select


def pool(seed, n, d):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)) @ np.diag(1.0 / np.arange(1, d + 1))


def config(count, scope, **kwargs):
    return SelectionConfig(budget=Budget(count=count), scope=scope, **kwargs)


def utility(rows):
    return np.linalg.slogdet(np.eye(rows.shape[1]) + rows.T @ rows)[1]


@pytest.mark.parametrize("method", ["spice", "fisher", "random"])
def test_windows_choose_each_on_its_own(method):
    gradients = pool(0, 300, 6)
    scope = WindowsScope(kind="windows", size=64, per_window=10)
    selection = select(gradients, config(45, scope, method=method, seed=4))
    expected, gains = [], []
    order = random_order(300, 4).numpy()
    for start in range(0, 300, 64):
        rows = np.sort(order[start : start + 64])
        part = select(gradients[rows], config(min(10, 45 - len(expected)), GlobalScope(), method=method, seed=4))
        expected += rows[part.indices].tolist()
        gains += part.gains
        if len(expected) == 45:
            break
    assert selection.indices == expected
    assert selection.gains == pytest.approx(gains)
    assert selection.utility == pytest.approx(utility(gradients[expected]))
    assert selection.utility <= selection.certificate.upper_bound


def test_ties_between_rows_of_length_one_are_reported_wherever_the_pool_is_cut():
    rows = np.random.default_rng(5).standard_normal((200, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    windows = select(rows, config(20, WindowsScope(kind="windows", size=50)))
    lacking = [margin < least for margin, least in zip(windows.margins, windows.resolutions, strict=True)]
    assert [lacking[place] for place in (0, 5, 10, 15)] == [True] * 4  # the first of each: all rows gain the same
    assert windows.undecided == sum(lacking) < 10
    scope = PartitionedScope(kind="partitioned", parts=4)
    parts = select(rows, config(20, scope))
    first = {part.min().item() for part in part_rows(200, 4, 0)}
    lacking = [margin < least for margin, least in zip(parts.margins, parts.resolutions, strict=True)]
    undecided = {row for row, is_close in zip(parts.indices, lacking, strict=True) if is_close}
    assert first & set(parts.indices) <= undecided  # also where the second round decided clearly
    assert parts.undecided == len(undecided) > 1


def test_windows_share_a_budget_in_proportion():
    selection = select(pool(1, 250, 5), config(33, WindowsScope(kind="windows", size=100)))
    order = random_order(250, 0).tolist()
    window_of = {row: place // 100 for place, row in enumerate(order)}
    held = np.bincount([window_of[row] for row in selection.indices])
    assert held.tolist() == [13, 13, 7]


def test_one_window_or_one_part_is_the_global_choice():
    gradients = pool(2, 120, 5)
    whole = select(gradients, config(30, GlobalScope()))
    for scope in (WindowsScope(kind="windows", size=120), PartitionedScope(kind="partitioned", parts=1)):
        cut = select(gradients, config(30, scope))
        assert cut.indices == whole.indices
        assert cut.resolutions == pytest.approx(whole.resolutions)
        if scope.kind == "windows":
            assert cut.margins == whole.margins
        assert cut.scope.loss == pytest.approx(0.0, abs=1e-12)
    assert whole.scope is None


@pytest.mark.parametrize("parts", [2, 5, 40])
def test_two_rounds_choose_among_the_winners_of_the_parts(parts):
    gradients = pool(3, 200, 8)
    selection = select(gradients, config(20, PartitionedScope(kind="partitioned", parts=parts), seed=1))
    candidates, winners = [], []
    for rows in part_rows(200, parts, 1):
        chosen = rows.numpy()[select(gradients[rows.numpy()], config(min(20, len(rows)), GlobalScope())).indices]
        candidates.append(chosen)
        winners += chosen.tolist()
    winners = np.sort(winners)
    candidates.append(winners[select(gradients[winners], config(20, GlobalScope())).indices])
    best = max(utility(gradients[rows]) for rows in candidates)
    assert selection.utility == pytest.approx(best)
    assert sorted(selection.indices) in [sorted(rows.tolist()) for rows in candidates]
    exact = select(gradients, config(20, GlobalScope())).utility
    assert selection.utility > 0.9 * exact


@pytest.mark.parametrize(("size", "parts"), [(10, 3), (7, 7), (5, 9), (1, 1)])
def test_parts_are_a_partition_of_nearly_equal_size(size, parts):
    rows = part_rows(size, parts, 2)
    assert sorted(row for part in rows for row in part.tolist()) == list(range(size))
    sizes = [len(part) for part in rows]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert all((part.diff() > 0).all() for part in rows)


def test_the_report_compares_with_the_exact_choice_on_a_sample():
    gradients = pool(4, 400, 12)
    report = select(gradients, config(40, WindowsScope(kind="windows", size=20))).scope
    assert (report.kind, report.sample, report.sample_count) == ("windows", 400, 40)
    assert report.exact_utility == pytest.approx(select(gradients, config(40, GlobalScope())).utility)
    assert report.loss == pytest.approx(1 - report.utility / report.exact_utility)
    assert 0.0 < report.loss < 0.5


def test_costs_losses_and_owned_samples_go_with_the_rows():
    gradients, random = pool(5, 90, 4), np.random.default_rng(0)
    losses = random.random(90)
    scope = WindowsScope(kind="windows", size=30, per_window=2)
    by_loss = select(gradients, config(6, scope, method="loss"), losses=losses.tolist(), costs=[2] * 90)
    order = random_order(90, 0).numpy()
    expected = [row for i in range(3) for row in sorted(order[30 * i : 30 * i + 30], key=lambda r: -losses[r])[:2]]
    assert by_loss.indices == expected
    assert by_loss.cost == 12
    owned = pool(6, 5, 4) * 3
    free, conditioned = (select(gradients, config(6, scope), given=given) for given in (None, owned))
    assert conditioned.utility < free.utility


def test_a_stop_from_outside_keeps_what_there_is():
    gradients = pool(7, 100, 4)
    for scope in (WindowsScope(kind="windows", size=20), PartitionedScope(kind="partitioned", parts=4)):
        asked = iter(range(10_000))
        selection = select(gradients, config(20, scope), should_stop=lambda asked=asked: next(asked) >= 9)
        assert (selection.partial, selection.stop_reason) == (True, "cancelled")
        assert 0 < len(selection.indices) < 20
        late = iter(range(10_000))
        same = select(gradients, config(20, scope), should_stop=lambda late=late: next(late) >= 9 and "deadline")
        assert (same.partial, same.stop_reason, same.indices) == (True, "deadline", selection.indices)


def test_progress_ends_at_the_budget():
    gradients = pool(7, 100, 4)
    for scope in (WindowsScope(kind="windows", size=20), PartitionedScope(kind="partitioned", parts=4)):
        told = []
        select(gradients, config(20, scope), on_progress=lambda picked, total, told=told: told.append((picked, total)))
        assert told == sorted(told)
        assert told[-1] == (20, 20)


@pytest.mark.parametrize(
    ("kwargs", "side", "error"),
    [
        ({"budget": Budget(tokens=50)}, {"costs": [1] * 30}, ConfigError),
        ({"budget": Budget(count=31)}, {}, BudgetError),
        ({"budget": Budget(count=29)}, {}, BudgetError),
        ({"budget": Budget(count=3), "quotas": Quotas(caps={"a": 1})}, {"groups": ["a"] * 30}, ConfigError),
        ({"budget": Budget(count=3)}, {"must_include": [1]}, ConfigError),
        ({"budget": Budget(count=3)}, {"exclude": [1]}, ConfigError),
    ],
)
def test_what_windows_cannot_do_is_refused(kwargs, side, error):
    scope = WindowsScope(kind="windows", size=10, per_window=2)
    with pytest.raises(error):
        select(pool(0, 30, 3), SelectionConfig(scope=scope, **kwargs), **side)


def test_scopes_read_from_json_by_their_kind():
    read = TypeAdapter(Scope).validate_python
    assert read({"kind": "windows", "size": 128, "per_window": 64}) == WindowsScope(
        kind="windows", size=128, per_window=64
    )
    assert read({"kind": "global"}) == GlobalScope()
    for bad in ({"kind": "other"}, {"kind": "partitioned"}, {"kind": "partitioned", "parts": 0}, {"size": 3}):
        with pytest.raises(ValidationError):
            read(bad)
