"""Batches are fixed by lengths and setting, hold every example once, and pad little."""

from __future__ import annotations

import random

import pytest
import torch

from spice_select.gradients.batching import collate, plan_batches
from spice_select.records.tokenize import Example


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("batch_tokens", [8, 64, 1000, 10**7])
def test_every_example_is_in_one_batch_under_the_limit(seed: int, batch_tokens: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.choice([0, 1, 2, 30, draw.randint(1, 300)]) for _ in range(200)]
    batches = plan_batches(lengths, batch_tokens)
    assert sorted(index for batch in batches for index in batch) == [i for i, length in enumerate(lengths) if length]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens


def test_examples_of_like_length_share_a_batch() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 1000) for _ in range(2000)]
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in plan_batches(lengths, 8192))
    assert padded / sum(lengths) < 1.02


def test_the_longest_come_first_and_equals_keep_their_order() -> None:
    assert plan_batches([3, 5, 3, 5, 3], 10) == [[1, 3], [0, 2, 4]]


def test_no_lengths_no_batches() -> None:
    assert plan_batches([], 8) == []
    assert plan_batches([0, 0], 8) == []


def test_labels_move_to_the_position_that_predicts_them() -> None:
    examples = [Example([5, 6, 7], [-100, 6, 7]), Example([8], [8])]
    right = collate(examples)
    assert right.input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert right.targets.tolist() == [[6, 7, -100], [-100, -100, -100]]
    assert right.attention_mask.tolist() == [[True] * 3, [True, False, False]]
    left = collate(examples, padding_side="left")
    assert left.input_ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert left.targets.tolist() == [[6, 7, -100], [-100, -100, -100]]
    assert left.attention_mask.tolist() == [[True] * 3, [False, False, True]]
    assert right.input_ids.dtype == torch.int64
