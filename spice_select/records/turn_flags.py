"""Flags of a turn that say how much of it is learned: 0 leaves it without a label, 1 is the default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from spice_select.errors import RowError
from spice_select.records.accounting import Fields

_WEIGHTS: Final = ("weight", "loss_weight", "loss_scale", "loss", "train", "training")
_MASKS: Final = ("masked", "mask")
_DETAILS: Final = ("train_detail", "training_detail")
FLAGS: Final = frozenset({*_WEIGHTS, *_MASKS, *_DETAILS})
"""Keys of a turn, or of a part of its content, that are flags."""

_WORDS: Final = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


def weight_of(turn: Mapping[str, Any], where: str) -> float:
    """Weight of a turn or of a part: the product of its flags.

    Args:
        turn: The turn or the part.
        where: What to call it in an error.

    Raises:
        RowError: ``wrong-type``: a flag that is no number of 0 or more and neither true nor false.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _number()
    weight = 1.0
    for key in _WEIGHTS:
        if turn.get(key) is not None:
            weight *= _number(turn[key], key, where)
    for key in _MASKS:
        if turn.get(key) is not None and _number(turn[key], key, where) != 0:
            weight = 0.0
    return weight


def take_flags(fields: Fields, *, learns: bool) -> None:
    """Count the flags of a turn or of a part as read.

    Args:
        fields: The turn or the part.
        learns: Whether it is the assistant's. Of others nothing is learned, so there a flag that says the same is
            read, and one that asks to learn them is not.
    """
    for key in (*_WEIGHTS, *_MASKS):
        if key in fields.value and (learns or _leaves_out(key, fields.value[key])):
            fields.take(key)


def _leaves_out(key: str, value: Any) -> bool:
    try:
        return weight_of({key: value}, "") == 0
    except RowError:
        return False


def part_weights(fields: Fields, parts: list[tuple[str, float]], where: str) -> list[tuple[int, float]] | None:
    """Characters and weight of each part of the content; None where every part has weight 1.

    Args:
        fields: The turn: axolotl's ``train_detail`` gives ranges of characters, both ends included.
        parts: Text and weight of each part.
        where: What to call the turn in an error.

    Raises:
        RowError: ``wrong-type``: ranges that cannot be read.
    """
    details = fields.first(_DETAILS)
    if not details:
        return None if all(weight == 1 for _, weight in parts) else [(len(text), weight) for text, weight in parts]
    weights = [weight for text, weight in parts for _ in text]
    try:
        for detail in details:
            ranged = Fields(detail, f"{fields.path}.train_detail[]", fields.notes)
            weight = _number(ranged.take("train"), "train", where)
            first, last = int(detail["begin_offset"]), int(detail["end_offset"])
            ranged.take("begin_offset", "end_offset")
            ranged.close()
            weights[first : last + 1] = [old * weight for old in weights[first : last + 1]]
    except (AttributeError, TypeError, KeyError, ValueError):
        raise RowError(f"the ranges of {where} that are learned cannot be read", code="wrong-type") from None
    spans: list[tuple[int, float]] = []
    for weight in weights:
        if spans and spans[-1][1] == weight:
            spans[-1] = (spans[-1][0] + 1, weight)
        else:
            spans.append((1, weight))
    return spans


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower(), value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise RowError(
            f"the flag {key} of {where} is neither true or false nor a number of 0 or more", code="wrong-type"
        )
    return number
