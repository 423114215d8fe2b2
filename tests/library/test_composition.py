"""What the choice is made of beside the pool: counted by a slow obvious twin."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch

from spice_select.config import Budget, SelectionConfig
from spice_select.results.composition import MOST_GROUPS, group_counts, length_histogram
from spice_select.selection.select import random_control, random_curve
from tests.conftest import SEED


def test_every_sample_is_in_the_bin_that_holds_its_length() -> None:
    draw = random.Random(SEED)
    tokens = [draw.choice([1, 2, 3, 4, 7, 8, draw.randint(1, 5000)]) for _ in range(400)]
    chosen = draw.sample(range(400), 40)
    found = length_histogram(tokens, chosen)
    for low, high, pool, selected in zip(
        found["edges"], found["edges"][1:], found["pool"], found["selected"], strict=False
    ):
        assert high == 2 * low
        assert pool == sum(low <= count < high for count in tokens)
        assert selected == sum(low <= tokens[index] < high for index in chosen)
    assert sum(found["pool"]) == 400
    assert sum(found["selected"]) == 40


def test_without_candidates_there_are_no_bins() -> None:
    assert length_histogram([], []) == {"edges": [], "pool": [], "selected": []}


def rows(count: int) -> list[dict[str, Any] | None]:
    return [
        None if i % 7 == 3 else {"id": f"row-{i}", "text": f"many words {i}", "source": "abc"[i % 3], "n": i}
        for i in range(count)
    ]


def test_the_first_column_that_can_name_groups_is_counted() -> None:
    records, chosen = rows(120), {0, 1, 2, 6, 9}
    found = group_counts(iter(records), chosen)
    assert found is not None
    assert found["column"] == "source"
    pool = Counter(record["source"] for record in records if record)
    mine = Counter(record["source"] for i, record in enumerate(records) if record and i in chosen)
    assert {g["name"]: (g["pool"], g["selected"]) for g in found["groups"]} == {
        name: (pool[name], mine[name]) for name in pool
    }
    assert [g["pool"] for g in found["groups"]] == sorted(pool.values(), reverse=True)


def test_a_named_column_is_counted_whatever_it_holds() -> None:
    found = group_counts([{"n": 1}, {"n": None}, {}, {"n": 1}], {3}, "n")
    assert found == {
        "column": "n",
        "groups": [{"name": "", "pool": 2, "selected": 0}, {"name": "1", "pool": 2, "selected": 1}],
    }


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"only": "one"}] * 5,
        [{"unique": str(i)} for i in range(5)],
        [{"many": str(i % (MOST_GROUPS + 1))} for i in range(200)],
        [{"gone": "a"}, {"other": "b"}],
        [{"long": "x\ny"}, {"long": "z"}, {"long": "z"}],
    ],
    ids=["nothing", "one-value", "unique", "too-many", "not-in-every-record", "lines"],
)
def test_a_column_that_names_no_groups_is_left_out(records: list[dict[str, Any]]) -> None:
    assert group_counts(records, {0}) is None


def test_the_random_curve_ends_at_the_random_control() -> None:
    gradients = torch.randn(50, 6, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    settings = SelectionConfig(budget=Budget(count=20))
    curve = random_curve(gradients, settings, 20, 3)
    assert [size for size, _ in curve] == [1, 2, 5, 10, 20]
    for size, utility in curve:
        assert utility == pytest.approx(random_control(gradients, settings, size, 3), rel=1e-12)
    assert random_curve(gradients, settings, 0, 3) == []
