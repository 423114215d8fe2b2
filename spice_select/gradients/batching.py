"""Which examples go through the model together: fixed by their lengths and the setting, by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from spice_select.records.tokenize import IGNORED, Example


@dataclass(frozen=True)
class Batch:
    """Examples side by side, one a row and padded (a preference pair takes two), or packed end to end into one row.

    Attributes:
        input_ids: int64 of shape (b, t); padding holds token 0. A packed batch has b = 1 and no padding.
        attention_mask: bool of shape (b, t), False at padding.
        targets: int64 of shape (b, t): the token that position has to predict, -100 where nothing is learned.
        places: int64 of shape (n, longest): where among the b * t tokens those of each example are; b * t where it has
            no more. None where each row is an example.
        weights: float64 of shape (b, t): factor of the loss of each target, negative in a rejected answer; None where
            all are 1.
        position_ids: int64 of shape (b, t): position of each token in its own sequence, 0 at padding; None where it is
            its column.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor
    places: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    position_ids: torch.Tensor | None = None

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

    Both sequences of a preference pair get a row, one after the other.

    Args:
        examples: At least one, none empty.
        padding_side: Where the padding goes. Right needs no attention mask in a causal model.
    """
    sequences = [sequence for example in examples for sequence in example.sequences()]
    longest = max(len(sequence.input_ids) for sequence in sequences)
    input_ids = torch.zeros((len(sequences), longest), dtype=torch.int64)
    attention_mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    targets = torch.full((len(sequences), longest), IGNORED, dtype=torch.int64)
    weights = torch.ones(targets.shape, dtype=torch.float64)
    for row, sequence in enumerate(sequences):
        length = len(sequence.input_ids)
        start = 0 if padding_side == "right" else longest - length
        input_ids[row, start : start + length] = torch.tensor(sequence.input_ids, dtype=torch.int64)
        attention_mask[row, start : start + length] = True
        targets[row, start : start + length - 1] = torch.tensor(sequence.labels[1:], dtype=torch.int64)
        if sequence.weights is not None:
            weights[row, start : start + length - 1] = _target_weights(sequence)[:-1]
    padded = not attention_mask[:, 0].all()
    return Batch(
        input_ids,
        attention_mask,
        targets,
        _places([len(example.input_ids) for example in examples], attention_mask)
        if len(sequences) > len(examples)
        else None,
        weights if any(sequence.weights is not None for sequence in sequences) else None,
        (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0) if padded else None,
    )


def pack(examples: Sequence[Example]) -> Batch:
    """Put examples end to end into one row, nothing between them.

    Args:
        examples: At least one, none empty.
    """
    sequences = [sequence for example in examples for sequence in example.sequences()]
    targets = [token for sequence in sequences for token in (*sequence.labels[1:], IGNORED)]
    input_ids = torch.tensor([[token for example in examples for token in example.input_ids]], dtype=torch.int64)
    attention_mask = torch.ones_like(input_ids, dtype=torch.bool)
    return Batch(
        input_ids,
        attention_mask,
        torch.tensor([targets], dtype=torch.int64),
        _places([len(example.input_ids) for example in examples], attention_mask),
        torch.cat([_target_weights(sequence) for sequence in sequences])[None]
        if any(sequence.weights is not None for sequence in sequences)
        else None,
        torch.cat([torch.arange(len(sequence.input_ids)) for sequence in sequences])[None],
    )


def _target_weights(sequence: Example) -> torch.Tensor:
    """Weight of what each token of a sequence has to predict, float64; the last predicts nothing."""
    if sequence.weights is None:
        return torch.ones(len(sequence.labels), dtype=torch.float64)
    return torch.tensor([*sequence.weights[1:], 1.0], dtype=torch.float64)


def _places(lengths: Sequence[int], attention_mask: torch.Tensor) -> torch.Tensor:
    """Where among the b * t tokens those of each example are, whose tokens follow one another but for padding."""
    there = attention_mask.flatten().nonzero().squeeze(1)
    places = torch.full((len(lengths), max(lengths)), attention_mask.numel(), dtype=torch.int64)
    start = 0
    for row, length in enumerate(lengths):
        places[row, :length] = there[start : start + length]
        start += length
    return places
