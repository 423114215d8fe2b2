"""JSON numbers that no double holds, such as 0.1234567890123456789012345 and 1e400: they keep their text.

A record goes out as it came in. Only numbers with an ordinary text are floats of Python throughout; the others know
their text, and are rounded where somebody computes with them.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final

from spice_select.records.conversation import compact_json

MOST_DIGITS: Final = 4300
"""Digits of the longest whole number: beyond that other readers of JSON give up, Python's own among them."""
_SUSPECT: Final = re.compile(r"[0-9.]{16}|[0-9.][eE][-+]?[0-9]{3}")
"""Stands in every text that has such a number in it, and in some that have not."""


class ExactNumber(float):
    """The nearest double of a number, infinite ones included.

    Args:
        text: The number as it stands in the document.
    """

    text: str

    def __new__(cls, text: str) -> ExactNumber:
        """The double next to the number, with its text."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __reduce__(self) -> tuple[type[ExactNumber], tuple[str]]:
        return ExactNumber, (self.text,)


def number_of(text: str) -> float:
    """The number that a text of JSON with a fraction or an exponent stands for; exact where a float would not be.

    Args:
        text: As it stands in the document.
    """
    number = float(text)
    # Fifteen digits survive in every double that is neither huge nor next to zero.
    if (len(text) < 17 and 1e-290 < abs(number) < 1e290) or repr(number) == text or _holds(number, text):
        return number
    return ExactNumber(text)


def _holds(number: float, text: str) -> bool:
    try:
        return math.isfinite(number) and Decimal(text) == Decimal(repr(number))
    except ArithmeticError:  # an exponent of a trillion
        return False


def whole_number_of(text: str) -> int | float:
    """The whole number that a text of JSON stands for.

    Args:
        text: As it stands in the document; at most ``MOST_DIGITS`` of it are taken for an ``int``.
    """
    return int(text) if len(text) <= MOST_DIGITS else ExactNumber(text)


_exact: Final = json.JSONDecoder(parse_float=number_of, parse_int=whole_number_of).decode


def is_suspect(text: str) -> bool:
    """Whether a JSON text may hold a number that no double holds: cheap, and never wrong where it says no.

    Args:
        text: The document.
    """
    return _SUSPECT.search(text) is not None


def load_record(text: str) -> Any:
    """The value of a JSON text, with exact numbers.

    Args:
        text: One record.
    """
    return _exact(text) if is_suspect(text) else json.loads(text)


def dump_record(value: Any) -> str:
    """Compact JSON of a value that may hold exact numbers, each with its text.

    Args:
        value: As ``load_record`` gives it.
    """
    if isinstance(value, ExactNumber):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{compact_json(key)}:{dump_record(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump_record, value)) + "]"
    return compact_json(value)
