"""Which examples go through the model together: fixed by their lengths and the setting, by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from spice_select.records.tokenize import IGNORED, Example


@dataclass(frozen=True)
class Batch:
    """Examples side by side, one a row and padded, or packed end to end into a single row.

    Attributes:
        input_ids: int64 of shape (b, t); padding holds token 0. A packed batch has b = 1 and no padding.
        attention_mask: bool of shape (b, t), False at padding.
        targets: int64 of shape (b, t): the token that position has to predict, -100 where nothing is learned.
        places: For a packed batch int64 of shape (n, longest): where in the row the tokens of each example are; t where
            it has no more. None for a padded one.
        weights: float64 of shape (b, t): factor of the loss of each target; None where all are 1.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor
    places: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    @property
    def samples(self) -> int:
        """Number of examples, n; b of a padded batch."""
        return len(self.input_ids if self.places is None else self.places)


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


def plan_packed(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group examples of like length so that the tokens of no batch are more than ``batch_tokens``.

    Args:
        lengths: Tokens of each example.
        batch_tokens: Most tokens of a batch; an example longer than that is a batch of its own.

    Returns:
        Indices of the examples of each batch, longest first; examples of length 0 are in none.
    """
    order = sorted((index for index, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if room < lengths[index]:
            batches.append([])
            room = batch_tokens
        batches[-1].append(index)
        room -= lengths[index]
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
    weights: torch.Tensor | None = None
    if any(example.weights is not None for example in examples):
        weights = torch.ones(targets.shape, dtype=torch.float64)
        for row, example in enumerate(examples):
            start = 0 if padding_side == "right" else longest - len(example.input_ids)
            weights[row, start : start + len(example.input_ids) - 1] = _target_weights(example)[:-1]
    return Batch(input_ids, attention_mask, targets, weights=weights)


def _target_weights(example: Example) -> torch.Tensor:
    """Weight of what each token of an example has to predict, float64; the last predicts nothing."""
    if example.weights is None:
        return torch.ones(len(example.labels), dtype=torch.float64)
    return torch.tensor([*example.weights[1:], 1.0], dtype=torch.float64)


def pack(examples: Sequence[Example]) -> Batch:
    """Put examples end to end into one row, nothing between them.

    Args:
        examples: At least one, none empty.
    """
    lengths = [len(example.input_ids) for example in examples]
    input_ids = torch.tensor([[token for example in examples for token in example.input_ids]], dtype=torch.int64)
    targets = [[*example.labels[1:], IGNORED] for example in examples]
    places = torch.full((len(examples), max(lengths)), sum(lengths), dtype=torch.int64)
    start = 0
    for row, length in enumerate(lengths):
        places[row, :length] = torch.arange(start, start + length)
        start += length
    return Batch(
        input_ids,
        torch.ones_like(input_ids, dtype=torch.bool),
        torch.tensor([[token for row in targets for token in row]], dtype=torch.int64),
        places,
        torch.cat([_target_weights(example) for example in examples])[None]
        if any(example.weights is not None for example in examples)
        else None,
    )


def positions(batch: Batch) -> torch.Tensor | None:
    """Position of each token in its own example, int64 of shape (b, t); None where it is its column.

    Args:
        batch: Padded or packed. Padding has position 0.
    """
    if batch.places is not None:
        found = torch.zeros(batch.input_ids.shape[1] + 1, dtype=torch.int64)
        found[batch.places] = torch.arange(batch.places.shape[1])
        return found[None, :-1]
    if batch.attention_mask[:, 0].all():
        return None
    return (batch.attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
