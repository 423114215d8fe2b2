"""Controls: the same size, the same tokens, the same shares; plantings that are as bad as they claim."""

from __future__ import annotations

import random
from collections import Counter

from spice_select.evaluation.controls import (
    group_matched_rows,
    length_matched_rows,
    one_group_rows,
    random_rows,
    random_rows_of_tokens,
    stratified_rows,
    with_nonsense,
)
from spice_select.records.tokenize import IGNORED, Example


def test_random_rows_are_distinct_and_change_with_the_seed(seed: int) -> None:
    drawn = [random_rows(100, 30, seed + turn) for turn in range(3)]
    assert all(len(set(rows)) == 30 for rows in drawn)
    assert drawn[0] == random_rows(100, 30, seed)
    assert drawn[0] != drawn[1] != drawn[2]


def test_random_tokens_come_as_close_as_the_next_row_allows(seed: int) -> None:
    tokens = [random.Random(seed + row).randrange(5, 300) for row in range(500)]
    for budget in (1, 1000, 20_000):
        rows = random_rows_of_tokens(tokens, budget, seed)
        total = sum(tokens[row] for row in rows)
        assert len(set(rows)) == len(rows) >= 1
        assert abs(total - budget) <= 150 or len(rows) == 1
    assert len(random_rows_of_tokens(tokens, 10**9, seed)) == 500


def test_length_matched_rows_have_the_lengths_of_the_choice(seed: int) -> None:
    tokens = [random.Random(seed + row).randrange(5, 300) for row in range(1000)]
    longest = sorted(range(1000), key=lambda row: -tokens[row])[:100]
    rows = length_matched_rows(tokens, longest, seed)
    assert len(set(rows)) == 100
    assert rows != longest
    assert abs(sum(tokens[row] for row in rows) / sum(tokens[row] for row in longest) - 1) < 0.03
    assert rows != length_matched_rows(tokens, longest, seed + 1)


def test_group_matched_rows_have_the_groups_of_the_choice(seed: int) -> None:
    groups = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    rows = group_matched_rows(groups, [0, 1, 60, 61, 62], seed)
    assert Counter(groups[row] for row in rows) == {"a": 2, "b": 3}
    assert len(set(rows)) == 5


def test_stratified_rows_keep_the_shares(seed: int) -> None:
    groups = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    assert Counter(groups[row] for row in stratified_rows(groups, 20, seed)) == {"a": 12, "b": 6, "c": 2}


def test_one_group_is_the_largest_that_is_large_enough(seed: int) -> None:
    groups = ["b", "a"] * 10 + ["a"]
    rows = one_group_rows(groups, 11, seed)
    assert rows is not None
    assert {groups[row] for row in rows} == {"a"}
    assert len(set(rows)) == 11
    assert one_group_rows(groups, 12, seed) is None
    assert one_group_rows(["a"] * 20, 5, seed) is None


def test_nonsense_keeps_prompts_and_lengths_and_draws_from_the_responses(seed: int) -> None:
    rows = [Example([1, 2, 3, 4 + row, 5], [IGNORED, IGNORED, 3, 4 + row, 5]) for row in range(50)]
    broken = with_nonsense(rows, seed)
    assert broken == with_nonsense(rows, seed)
    pot = {label for row in rows for label in row.labels if label != IGNORED}
    for row, other in zip(rows, broken, strict=True):
        assert other.input_ids[:2] == row.input_ids[:2]
        assert other.labels == [IGNORED, IGNORED, *other.input_ids[2:]]
        assert set(other.input_ids[2:]) <= pot
    assert sum(row == other for row, other in zip(rows, broken, strict=True)) < 5
