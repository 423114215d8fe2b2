"""JSON numbers that keep their text: those that no double holds, such as 0.1234567890123456789012345 and 1e400.

A record goes out as it came in. Only numbers with an ordinary text are floats of Python throughout; the others know
their text, and are rounded where somebody computes with them.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final

compact_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""The one way a record is written: no spaces, keys in their own order, characters as they are."""

MOST_DIGITS: Final = 4300
"""Digits of the longest whole number: beyond that other readers of JSON give up, Python's own among them."""
_SUSPECT: Final = re.compile(r"[0-9.]{16}|[0-9.][eE][-+]?[0-9]{3}")
"""Stands in every text that has such a number in it, and in some that have not."""

_spaced: Final = json.JSONEncoder(ensure_ascii=False).encode


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

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

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


def spelt_number(text: str) -> float:
    """The number that a text stands for, which keeps that text where Python would write another: 1.10, 1e5.

    Args:
        text: As it stands in the document.
    """
    number = float(text)
    return number if repr(number) == text else ExactNumber(text)


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


def is_exact(value: Any) -> bool:
    """Whether a value of JSON holds a number that keeps its text."""
    if isinstance(value, (str, int)):
        return False
    if isinstance(value, (dict, list)):
        return any(is_exact(item) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, ExactNumber)


def exact_json(value: Any, **options: Any) -> str:
    """``json.dumps`` of a value that may hold exact numbers, each with its text.

    Args:
        value: A value of JSON.
        **options: Those of ``json.dumps``; characters are kept as they are unless they say otherwise.
    """
    if not options and not is_exact(value):
        return _spaced(value)
    options = {"ensure_ascii": False, **options}
    if not is_exact(value):
        return json.dumps(value, **options)
    texts: dict[str, str] = {}

    def named(item: Any) -> Any:
        if isinstance(item, ExactNumber):
            name = f"\x00number {len(texts)}\x00"
            texts[json.dumps(name)] = item.text
            return name
        if isinstance(item, dict):
            return {key: named(member) for key, member in item.items()}
        return [named(member) for member in item] if isinstance(item, list) else item

    written = json.dumps(named(value), **options)
    for name, text in texts.items():
        written = written.replace(name, text)
    return written
