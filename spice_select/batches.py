"""Which examples go through the model together: fixed by their lengths and the setting, by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from spice_select.examples import IGNORED, Example


@dataclass(frozen=True)
class Batch:
    """Padded examples.

    Attributes:
        input_ids: int64 of shape (b, t); padding holds token 0.
        attention_mask: bool of shape (b, t), False at padding.
        targets: int64 of shape (b, t): the token that position has to predict, -100 where nothing is learned.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group examples of like length so that no batch pads to more than ``batch_tokens``.

    Longest first, so that a machine with too little memory finds out at once. Equal lengths keep their order.

    Args:
        lengths: Tokens of each example.
        batch_tokens: Largest b * t of a batch; an example longer than that is a batch of its own.

    Returns:
        Indices of the examples of each batch; examples of length 0 are in none.
    """
    order = sorted((index for index, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if room == 0:
            batches.append([])
            room = max(1, batch_tokens // lengths[index])
        batches[-1].append(index)
        room -= 1
    return batches


def collate(examples: Sequence[Example], *, padding_side: Literal["left", "right"] = "right") -> Batch:
    """Pad examples to the longest of them and shift the labels onto the positions that predict them.

    Args:
        examples: At least one, none empty.
        padding_side: Where the padding goes. Right needs no attention mask in a causal model.
    """
    longest = max(len(example.input_ids) for example in examples)
    input_ids = torch.zeros((len(examples), longest), dtype=torch.int64)
    attention_mask = torch.zeros((len(examples), longest), dtype=torch.bool)
    targets = torch.full((len(examples), longest), IGNORED, dtype=torch.int64)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        start = 0 if padding_side == "right" else longest - length
        input_ids[row, start : start + length] = torch.tensor(example.input_ids, dtype=torch.int64)
        attention_mask[row, start : start + length] = True
        targets[row, start : start + length - 1] = torch.tensor(example.labels[1:], dtype=torch.int64)
    return Batch(input_ids, attention_mask, targets)
