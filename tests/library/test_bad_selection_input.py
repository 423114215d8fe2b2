"""Bad input to a selection, item by item: what it is called, where it is, and what is no error at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from spice_select.config import Budget, Conditions, PartitionedScope, Quotas, RunConfig, SelectionConfig, WindowsScope
from spice_select.errors import BudgetError, SpiceError
from spice_select.selection.select import select
from spice_select.selection.validation import check_quotas, check_settings, check_targets

RNG = np.random.default_rng(11)
POOL = RNG.normal(size=(20, 4))
GROUPS = ["a"] * 15 + ["b/c"] * 5
COSTS = [7 + row for row in range(20)]


def broken(value: float) -> Any:
    pool = POOL.copy()
    pool[[3, 17], 1] = value
    return pool


def config(count: int | None = 5, tokens: int | None = None, **values: Any) -> SelectionConfig:
    return SelectionConfig(budget=Budget(count=count) if tokens is None else Budget(tokens=tokens), **values)


REFUSED: dict[str, tuple[Any, SelectionConfig, dict[str, Any], str, str | None, str]] = {
    "nan": (broken(np.nan), config(), {}, "gradients-not-finite", "#/3 #/17", "3, 17"),
    "infinite": (broken(-np.inf), config(), {}, "gradients-not-finite", "#/3 #/17", "3, 17"),
    "no rows": (np.zeros((0, 4)), config(), {}, "pool-empty", None, "no sample"),
    "k above n": (POOL, config(21), {}, "budget-exceeds-pool", "#/budget/count", "20 samples"),
    "k above what is left": (
        POOL, config(19), {"exclude": [1, 2]}, "budget-exceeds-pool", "#/budget/count", "not excluded",
    ),
    "floor above its group": (
        POOL, config(8, quotas=Quotas(floors={"b/c": 6})), {"groups": GROUPS}, "budget-exceeds-pool",
        "#/quotas/floors/b~1c", "'b/c' is 6, the pool has 5",
    ),
    "floors above the budget": (
        POOL, config(5, quotas=Quotas(floors={"a": 4, "b/c": 2})), {"groups": GROUPS}, "budget-exceeds-pool",
        "#/quotas/floors", "at least 6 of count",
    ),
    "caps below the budget": (
        POOL, config(9, quotas=Quotas(caps={"a": 3})), {"groups": GROUPS}, "budget-exceeds-pool", "#/quotas/caps",
        "leave 8 samples",
    ),
    "quotas without groups": (
        POOL, config(quotas=Quotas(caps={"a": 3})), {}, "config-invalid", "#/quotas", "group of every sample",
    ),
    "tokens below the shortest": (
        POOL, config(tokens=6), {"costs": COSTS}, "budget-exceeds-pool", "#/budget/tokens", "shortest sample has 7",
    ),
    "tokens without lengths": (POOL, config(tokens=60), {}, "config-invalid", "#/budget/tokens", "tokens of every"),
    "targets of another proxy": (
        POOL, config(method="less"), {"targets": RNG.normal(size=(3, 5))}, "pool-invalid", "#/targets/0",
        "same proxy and settings",
    ),
    "given of another proxy": (
        POOL, config(), {"given": RNG.normal(size=(3, 5))}, "pool-invalid", "#/given", "same proxy and settings",
    ),
    "less without targets": (POOL, config(method="less"), {}, "config-invalid", "#/method", "target set"),
    "a row on both sides": (
        POOL, config(), {"must_include": [4], "exclude": [4]}, "config-invalid", "#/exclude", "rows \\[4\\] are both",
    ),
    "more must be included than may be": (
        POOL, config(2), {"must_include": [4, 5, 6]}, "budget-exceeds-pool", "#/budget/count", "need at least 3",
    ),
    "a row that is not there": (
        POOL, config(), {"must_include": [4, 20]}, "pool-invalid", "#/must_include", "\\[20\\]",
    ),
    "tokens in windows": (
        POOL, config(tokens=60, scope=WindowsScope(kind="windows", size=5)), {"costs": COSTS}, "config-invalid",
        "#/budget/tokens", "in samples, not tokens",
    ),
    "quotas in parts": (
        POOL, config(quotas=Quotas(caps={"a": 3}), scope=PartitionedScope(kind="partitioned", parts=2)),
        {"groups": GROUPS}, "config-invalid", "#/scope/kind", "scope global",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_has_a_code_and_a_pointer(case: str) -> None:
    pool, settings, side, code, pointer, text = REFUSED[case]
    with pytest.raises(SpiceError, match=text) as caught:
        select(pool, settings, **side)
    assert caught.value.code == code
    assert [finding["pointer"] for finding in caught.value.errors] == ([] if pointer is None else pointer.split())


@pytest.mark.parametrize(
    "values",
    [
        {"stop_ratio": 0.0}, {"stop_ratio": 1.0}, {"stop_ratio": -0.5}, {"stop_ratio": float("nan")},
        {"alpha": 0.0}, {"alpha": -1.0}, {"alpha": float("inf")}, {"conflict_penalty": -0.1}, {"min_gain": 0.0},
        {"max_count": 0}, {"quotas": {"floors": {"a": 3}, "caps": {"a": 2}}},
    ],
    ids=str,
)  # fmt: skip
def test_settings_outside_their_range_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**values)
    assert caught.value.errors()[0]["loc"][0] == next(iter(values))


@pytest.mark.parametrize("method", ["spice", "fisher", "top_norm", "dpp", "facility_location", "k_center", "random"])
@pytest.mark.parametrize("kind", ["zero", "identical"])
def test_zero_and_identical_rows_are_no_error(method: Any, kind: str) -> None:
    pool = np.zeros((6, 3)) if kind == "zero" else np.tile([[0.6, 0.8, 0.0]], (6, 1))
    selection = select(pool, config(6, method=method))
    assert sorted(selection.indices) == list(range(6))
    if method in {"spice", "fisher"}:
        assert selection.indices == list(range(6)), "ties go to the lower row"
        assert selection.utility == pytest.approx(0.0 if kind == "zero" else np.log(7.0))


EARLY: dict[str, tuple[SelectionConfig, dict[str, Any], str, str]] = {
    "k above n": (config(21), {}, "budget-exceeds-pool", "#/budget/count"),
    "must include more than k": (config(1), {"must_include": [1, 2]}, "budget-exceeds-pool", "#/must_include"),
    "must include more than the most": (
        config(5, max_count=1), {"must_include": [1, 2]}, "budget-exceeds-pool", "#/must_include",
    ),
    "both sides": (config(), {"must_include": [1], "exclude": [1]}, "config-invalid", "#/exclude/0"),
    "floors above k": (
        config(5, quotas=Quotas(column="g", floors={"a": 3, "b": 3})), {}, "budget-exceeds-pool",
        "#/selection/quotas/floors",
    ),
    "tokens in parts": (
        config(tokens=50, scope=PartitionedScope(kind="partitioned", parts=2)), {}, "config-invalid",
        "#/budget/tokens",
    ),
    "quotas in windows": (
        config(quotas=Quotas(column="g"), scope=WindowsScope(kind="windows")), {}, "config-invalid",
        "#/selection/quotas",
    ),
    "given in parts": (
        config(scope=PartitionedScope(kind="partitioned", parts=2)), {"given_job": "job_x"}, "config-invalid",
        "#/given_job",
    ),
    "less in windows": (
        config(method="less", scope=WindowsScope(kind="windows")), {"target_dataset_id": "ds_x"}, "config-invalid",
        "#/target_dataset_id",
    ),
    "windows that yield too few": (
        config(9, scope=WindowsScope(kind="windows", size=8, per_window=3)), {}, "budget-exceeds-pool",
        "#/selection/scope/per_window",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EARLY)
def test_what_no_pool_can_meet_is_refused_before_it_is_measured(case: str) -> None:
    settings, conditions, code, pointer = EARLY[case]
    usable = 17 if "windows that" in case else 20
    with pytest.raises(SpiceError) as caught:
        check_settings(RunConfig(selection=settings, conditions=Conditions(**conditions)), usable)
    assert (caught.value.code, [finding["pointer"] for finding in caught.value.errors]) == (code, [pointer])


def test_windows_that_yield_just_enough_are_not_refused() -> None:
    scope = WindowsScope(kind="windows", size=8, per_window=3)
    check_settings(RunConfig(selection=config(7, scope=scope)), 17)
    assert len(select(RNG.normal(size=(17, 4)), config(7, scope=scope)).indices) == 7
    with pytest.raises(BudgetError):
        select(RNG.normal(size=(17, 4)), config(8, scope=scope))


def test_every_group_that_is_too_small_is_named() -> None:
    floors = Quotas(column="g", floors={"a": 3, "b/c": 4, "d~": 1}, caps={})
    with pytest.raises(BudgetError) as caught:
        check_quotas(RunConfig(selection=config(9, quotas=floors)), {"a": 3, "b/c": 2})
    pointers = [finding["pointer"] for finding in caught.value.errors]
    assert pointers == ["#/selection/quotas/floors/b~1c", "#/selection/quotas/floors/d~0"]
    caps = Quotas(column="g", caps={"a": 1, "z": 0})
    with pytest.raises(BudgetError, match=r"leave 3 rows, 4 are asked for; capped are a$") as caught:
        check_quotas(RunConfig(selection=config(4, quotas=caps)), {"a": 3, "b": 2})
    assert caught.value.errors[0]["pointer"] == "#/selection/quotas/caps"
    check_quotas(RunConfig(selection=config(3, quotas=caps)), {"a": 3, "b": 2})


@pytest.mark.parametrize(
    ("settings", "names"),
    [({"method": "less"}, []), ({"method": "herding"}, ["a"]), ({"scope": WindowsScope(kind="windows")}, ["a"])],
)
def test_targets_and_methods_that_do_not_fit_are_refused(settings: Any, names: list[str]) -> None:
    with pytest.raises(SpiceError) as caught:
        check_targets(RunConfig(selection=config(**settings)), names, [1.0] * len(names))
    assert caught.value.errors[0]["pointer"] == "#/targets"
