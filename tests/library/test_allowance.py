"""Budgets in samples and tokens, quotas, forced and excluded rows, owned samples, ends of a run."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spice_select.config import Budget, Quotas, SelectionConfig
from spice_select.errors import BudgetError, ConfigError, PoolError
from spice_select.selection.budget import Allowance
from spice_select.selection.select import select
from tests.fixtures.examples import examples

cases = settings(max_examples=examples(120))


def pool(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def config(count=None, **kwargs):
    budget = Budget(tokens=kwargs.pop("tokens")) if "tokens" in kwargs else Budget(count=count)
    return SelectionConfig(budget=budget, **kwargs)


def is_feasible(costs, groups, floors, caps, limit, is_count):
    """Whether some set of rows meets the floors and caps within the limit; exactly the limit for a count."""
    for size in range(len(costs) + 1):
        for rows in itertools.combinations(range(len(costs)), size):
            held = [sum(groups[row] == name for row in rows) for name in "abc"]
            if not all(floors.get(n, 0) <= h <= caps.get(n, 99) for n, h in zip("abc", held, strict=True)):
                continue
            if (size == limit) if is_count else (sum(costs[row] for row in rows) <= limit):
                return True
    return False


@cases
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 8),
    is_count=st.booleans(),
    floors=st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3),
    caps=st.dictionaries(st.sampled_from("abc"), st.integers(0, 4), max_size=2),
)
def test_quotas_are_met_whenever_they_can_be(seed, n, is_count, floors, caps):
    random = np.random.default_rng(seed)
    groups = random.choice(list("abc"), n).tolist()
    costs = random.integers(1, 9, n)
    floors = {name: min(floor, caps.get(name, floor)) for name, floor in floors.items()}
    limit = int(random.integers(1, n + 1)) if is_count else int(random.integers(costs.min(), costs.sum() + 1))
    settings_ = {"count": limit} if is_count else {"tokens": limit}
    wanted = config(**settings_, quotas=Quotas(floors=floors, caps=caps))
    gradients = pool(seed, n, 3)
    if not is_feasible(costs, groups, floors, caps, limit, is_count):
        with pytest.raises(BudgetError) as caught:
            select(gradients, wanted, costs=costs.tolist(), groups=groups)
        assert caught.value.errors[0]["pointer"].startswith("#/quotas")
        return
    if not is_count and min((costs[row] for row in range(n)), default=0) > limit:
        return
    selection = select(gradients, wanted, costs=costs.tolist(), groups=groups)
    for name in "abc":
        held = sum(groups[row] == name for row in selection.indices)
        assert floors.get(name, 0) <= held <= caps.get(name, n)
    if is_count:
        assert len(selection.indices) == limit
    else:
        assert costs[selection.indices].sum() <= limit


def test_quotas_change_nothing_until_they_bind():
    gradients, groups = pool(1, 60, 6), ["a", "b", "c"] * 20
    free = select(gradients, config(30), groups=groups)
    held = {name: sum(groups[row] == name for row in free.indices) for name in "abc"}
    exact = Quotas(floors=held, caps=held)
    assert select(gradients, config(30, quotas=exact), groups=groups).indices == free.indices


def test_a_cap_closes_a_group_and_a_floor_holds_the_last_places():
    gradients = np.diag([9.0, 8.0, 7.0, 6.0, 0.1, 0.2])
    groups = ["big"] * 4 + ["small"] * 2
    capped = select(gradients, config(4, quotas=Quotas(caps={"big": 2})), groups=groups)
    assert capped.indices == [0, 1, 5, 4]
    floored = select(gradients, config(4, quotas=Quotas(floors={"small": 1})), groups=groups)
    assert floored.indices == [0, 1, 2, 5]
    tight = select(gradients, config(3, quotas=Quotas(floors={"small": 2, "big": 1})), groups=groups)
    assert tight.indices == [0, 5, 4]


def test_a_token_budget_keeps_back_what_the_floors_will_cost():
    gradients, costs = np.diag([9.0, 8.0, 0.1]), [6, 6, 5]
    groups = ["big", "big", "small"]
    wanted = config(tokens=12, quotas=Quotas(floors={"small": 1}))
    assert select(gradients, wanted, costs=costs, groups=groups).indices == [0, 2]


@pytest.mark.parametrize(
    ("quotas", "count", "pointer"),
    [
        (Quotas(floors={"a": 4}), 5, "#/quotas/floors/a"),
        (Quotas(floors={"nothing": 1}), 5, "#/quotas/floors/nothing"),
        (Quotas(floors={"a": 3, "b": 3}), 5, "#/quotas/floors"),
        (Quotas(caps={"a": 1, "b": 1}), 3, "#/quotas/caps"),
    ],
)
def test_quotas_that_cannot_be_met_say_which(quotas, count, pointer):
    with pytest.raises(BudgetError) as caught:
        select(pool(0, 6, 2), config(count, quotas=quotas), groups=["a", "b"] * 3)
    assert caught.value.errors[0]["pointer"] == pointer


def test_quotas_that_contradict_themselves_or_lack_groups_are_refused():
    with pytest.raises(ValidationError, match="above the cap of a"):
        Quotas(floors={"a": 3, "b": 1}, caps={"a": 2})
    with pytest.raises(ConfigError):
        select(pool(0, 6, 2), config(2, quotas=Quotas(caps={"a": 1})))
    with pytest.raises(BudgetError) as caught:
        select(pool(0, 4, 2), config(3, quotas=Quotas(caps={"a": 1})), groups=["a", "a", "b", "b"], must_include=[0, 1])
    assert caught.value.errors[0]["pointer"] == "#/quotas/caps/a"


def test_forced_rows_come_first_in_the_order_of_the_rule_and_the_rest_knows_them():
    gradients = pool(2, 40, 5)
    selection = select(gradients, config(15), must_include=[3, 30, 12])
    alone = select(gradients[[3, 12, 30]], config(3)).indices
    assert selection.indices[:3] == [[3, 12, 30][place] for place in alone]
    rest = [row for row in range(40) if row not in {3, 12, 30}]
    after = select(gradients[rest], config(12), given=gradients[selection.indices[:3]])
    assert selection.indices[3:] == [rest[row] for row in after.indices]


def test_excluded_rows_are_as_if_they_were_not_there():
    gradients = pool(3, 50, 6)
    gradients[7] = gradients[8] = gradients[20]  # an excluded copy must not hide the others
    kept = [row for row in range(50) if row not in {7, 11}]
    selection = select(gradients, config(30), exclude=[7, 11])
    assert selection.indices == [kept[row] for row in select(gradients[kept], config(30)).indices]
    with pytest.raises(BudgetError, match="48 samples that are not excluded"):
        select(gradients, config(49), exclude=[7, 11])


@pytest.mark.parametrize("information", ["logdet", "diagonal"])
@pytest.mark.parametrize("penalty", [0.0, 0.4])
def test_owned_samples_count_as_chosen_already(information, penalty):
    gradients = pool(4, 70, 8)
    whole = select(gradients, config(40, information=information, conflict_penalty=penalty))
    first, rest = whole.indices[:15], [row for row in range(70) if row not in whole.indices[:15]]
    more = select(
        gradients[rest], config(25, information=information, conflict_penalty=penalty), given=gradients[first]
    )
    assert [rest[row] for row in more.indices] == whole.indices[15:]
    np.testing.assert_allclose(more.gains, whole.gains[15:])
    np.testing.assert_allclose(more.conflicts, whole.conflicts[15:], atol=1e-12)
    if information == "logdet":
        assert more.utility == pytest.approx(sum(more.gains))


def test_owned_samples_of_very_unequal_length_are_conditioned_on_too():
    gradients = pool(4, 20, 4)
    gradients[:6] *= 1e7
    whole = select(gradients, config(12, conflict_penalty=0.0))
    first, rest = whole.indices[:5], [row for row in range(20) if row not in whole.indices[:5]]
    more = select(gradients[rest], config(7, conflict_penalty=0.0), given=gradients[first])
    assert [rest[row] for row in more.indices] == whole.indices[5:]


def test_a_least_gain_and_a_least_count_set_the_end():
    gradients = pool(5, 60, 4)
    gains = select(gradients, config(60, conflict_penalty=0.0)).gains
    selection = select(gradients, config(60, conflict_penalty=0.0, min_gain=0.3))
    assert selection.gains == pytest.approx([gain for gain in gains if gain > 0.3])
    assert selection.stop_reason == "min_gain"
    longer = select(gradients, config(60, conflict_penalty=0.0, min_gain=0.3, min_count=len(selection.gains) + 4))
    assert len(longer.indices) == len(selection.indices) + 4
    assert len(select(gradients, config(60, stop_ratio=0.9, min_count=30)).indices) == 30


def test_no_early_stop_before_floors_and_forced_rows_are_in():
    gradients = np.diag([9.0, 0.1, 0.1, 8.0])
    groups = ["a", "b", "b", "a"]
    selection = select(
        gradients, config(4, stop_ratio=0.9, quotas=Quotas(floors={"b": 2})), groups=groups, must_include=[3]
    )
    assert selection.indices == [3, 0, 1, 2]


def test_a_largest_count_limits_a_token_budget():
    selection = select(pool(6, 20, 3), config(tokens=1000, max_count=7), costs=[3] * 20)
    assert len(selection.indices) == 7
    assert selection.stop_reason == "budget_reached"


def test_everything_fits():
    selection = select(pool(6, 5, 3), config(tokens=1000), costs=[3] * 5)
    assert (len(selection.indices), selection.stop_reason, selection.cost) == (5, "pool_exhausted", 15)


@pytest.mark.parametrize("rows", [[5], [-1], [0, 99]])
def test_rows_that_the_pool_does_not_have_are_refused(rows):
    with pytest.raises(PoolError):
        select(pool(0, 5, 2), config(2), exclude=rows)
    with pytest.raises(PoolError):
        select(pool(0, 5, 2), config(2), must_include=rows)


def test_forced_rows_that_contradict_the_rest_are_refused():
    with pytest.raises(ConfigError):
        select(pool(0, 5, 2), config(2), must_include=[1], exclude=[1])
    with pytest.raises(BudgetError) as caught:
        select(pool(0, 5, 2), config(2), must_include=[1, 2, 3])
    assert caught.value.errors[0]["pointer"] == "#/budget/count"
    with pytest.raises(BudgetError) as caught:
        select(pool(0, 3, 2), config(tokens=10), costs=[4, 7, 4], must_include=[0, 1])
    assert caught.value.errors[0]["pointer"] == "#/budget/tokens"


def test_a_row_once_closed_stays_closed():
    random = np.random.default_rng(0)
    for seed in range(30):
        costs = torch.from_numpy(random.integers(1, 30, 12)).double()
        groups = random.choice(list("abc"), 12).tolist()
        wanted = config(tokens=int(costs.sum() * 0.6), quotas=Quotas(floors={"a": 1, "b": 1}))
        if not {"a", "b"} <= set(groups):
            continue
        allowance = Allowance(wanted, 12, costs, groups=groups)
        before = allowance.allowed.clone()
        while not allowance.is_used_up:
            allowance.take(int(np.random.default_rng(seed).choice(torch.nonzero(allowance.allowed).flatten().numpy())))
            assert not bool((allowance.allowed & ~before).any())
            before = allowance.allowed.clone()
        assert not allowance.is_owed
