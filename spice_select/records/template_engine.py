"""A chat template, compiled so that its text follows from what it is given: no clock, no locale, no chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from operator import mul
from typing import Any, Final

from jinja2.exceptions import SecurityError
from transformers.utils import chat_template_utils

from spice_select.records.exact_numbers import exact_json

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
MOST_CHARACTERS: Final = 2**26
"""Longest text that a template may render, and that one of its operations may make."""
MOST_EXPONENT: Final = 4096
_GUARDED: Final[dict[str, Callable[[Any, Any], Any]]] = {"*": mul, "**": pow}
_COMPILE: Any = chat_template_utils._cached_compile_jinja_template


def compile_template(template: str, today: str) -> Any:
    """The template in an environment of its own, as transformers makes it, with everything ambient pinned.

    Args:
        template: Source of the template.
        today: What ``strftime_now`` says the date is, YYYY-MM-DD; the time is midnight UTC.
    """
    environment = _COMPILE(template).environment
    environment.intercepted_binops = frozenset(_GUARDED)
    environment.call_binop = _guarded
    compiled = environment.from_string(template)
    environment.globals["strftime_now"] = fixed_clock(date.fromisoformat(today))
    environment.globals.pop("lipsum", None)
    environment.filters["random"] = _first
    environment.filters["tojson"] = _tojson
    return compiled


def _guarded(_context: Any, operator: str, left: Any, right: Any) -> Any:
    """An operation of a template, unless a few characters of it would fill the memory.

    Raises:
        SecurityError: They would.
    """
    if operator == "**":
        large = isinstance(left, int | float) and isinstance(right, int | float) and abs(right) > MOST_EXPONENT
    else:
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        times = [side for side in (left, right) if isinstance(side, int)]
        large = any(size * count > MOST_CHARACTERS for size in sizes for count in times)
        large = large or any(abs(number).bit_length() > MOST_EXPONENT for number in times)
    if large:
        raise SecurityError("an operation of the template would take too much memory")
    return _GUARDED[operator](left, right)


def fixed_clock(today: date) -> Callable[[str], str]:
    """``strftime_now`` of templates for a date that does not move, with English names whatever the locale.

    Args:
        today: The date; the time is midnight UTC.
    """
    moment = datetime.combine(today, time(), UTC)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    names = {
        "%A": day, "%a": day[:3], "%B": month, "%b": month[:3], "%h": month[:3], "%p": "AM", "%P": "am",
        "%c": f"{day[:3]} {month[:3]} {moment.day:2d} 00:00:00 {moment.year}", "%x": moment.strftime("%m/%d/%y"),
        "%X": "00:00:00", "%r": "12:00:00 AM", "%s": str(int(moment.timestamp())), "%Z": "UTC", "%z": "+0000",
    }  # fmt: skip

    def strftime_now(form: str) -> str:
        pieces = str(form).split("%%")
        for name, text in names.items():
            pieces = [piece.replace(name, text.replace("%", "")) for piece in pieces]
        return "%".join(moment.strftime(piece) for piece in pieces)

    return strftime_now


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """``tojson`` of transformers, with numbers that keep their text."""
    return exact_json(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _first(_context: Any, values: Sequence[Any]) -> Any:
    """In place of Jinja's ``random``, which is compiled to be given the context too: the first value."""
    return next(iter(values), "")
