"""Tool calls in every dialect -> the one that chat templates read: ``function`` with a name and an arguments object."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from spice_select.errors import RowError
from spice_select.records.accounting import Fields, Notes, holds
from spice_select.records.exact_numbers import ExactNumber, exact_json, spelt_number

_ARGUMENTS: Final = ("arguments", "parameters", "input", "args")
_SORTS: Final = frozenset({"function", "tool_use", "tool_call", "function_call"})
OTHER_SPELLING: Final = (
    "arguments of tool calls are JSON text that is spaced or spelt otherwise than the JSON of a chat template, "
    "and are rendered in its spelling (stored as objects they read the same everywhere)"
)
"""A trainer that hands the text itself to the template learns other tokens."""


def openai_calls(value: Any, where: str, path: str, notes: Notes) -> list[dict[str, Any]]:
    """Calls of a ``tool_calls`` or ``function_call`` value.

    Args:
        value: A list, one call, or either as JSON text; arguments as an object or as JSON text.
        where: What to call the place in an error.
        path: Where it is in the record.
        notes: Told of what is not used.

    Raises:
        RowError: ``wrong-type``: a call without a name, or no call at all.
    """
    value = parsed(value)
    if isinstance(value, dict):
        return [_call(value, where, path, notes)]
    if not isinstance(value, list):
        raise RowError(f"the tool calls of {where} are not a list", code="wrong-type")
    return [_call(parsed(item), where, f"{path}[]", notes) for item in value if item is not None]


def spoken_calls(text: str, path: str, notes: Notes) -> list[dict[str, Any]] | None:
    """Calls of a ShareGPT ``function_call`` turn, whose value is JSON; None where it is something else.

    Args:
        text: The value of the turn.
        path: Where it is in the record.
        notes: Told of what is not used.
    """
    value = parsed(text)
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and ("name" in call or "function" in call) for call in calls):
        return None
    try:
        return openai_calls(value, "the turn", path, notes)
    except RowError:
        return None


def definitions(value: Any, column: str, notes: Notes) -> list[dict[str, Any]] | None:
    """Tool definitions of a ``tools`` column: a list or JSON text; None where it holds none.

    Args:
        value: What the column holds.
        column: Its name as it is shown.
        notes: Told of numbers that are rounded.

    Raises:
        RowError: ``wrong-type``: no list of objects.
    """
    is_text, value = isinstance(value, str), parsed(value)
    if value is None or (isinstance(value, str) and not value.strip()) or value == [] or value == {}:
        return None
    given = [value] if isinstance(value, dict) else value
    tools = [parsed(tool) for tool in given] if isinstance(given, list) else given
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        hint = "; it looks like a Python literal, not JSON" if is_python_literal(value) else ""
        raise RowError(f"column {column} holds no list of tool definitions{hint}", code="wrong-type")
    # In JSON text a null was written by somebody, and a trainer reads it.
    return [
        _definition(tool) if is_text or isinstance(text, str) else without_nulls(_definition(tool), notes)
        for tool, text in zip(tools, given, strict=True)
    ]


def parsed(value: Any) -> Any:
    """A value, or what it says where it is JSON text of an object or a list in which no key stands twice."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            return _decode(value)
        except (ValueError, RecursionError):
            return value
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its members.

    Raises:
        ValueError: A key stands in it twice, and the first value would be lost.
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _finite(text: str) -> float:
    """A number of JSON text; what no double holds leaves the text as it is.

    Raises:
        ValueError: It is infinite or no number.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _spelt(text: str) -> float:
    _finite(text)
    return spelt_number(text)


_decode: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_finite, object_pairs_hook=_unique).decode
_decode_spelt: Final = json.JSONDecoder(parse_float=_spelt, parse_constant=_finite, object_pairs_hook=_unique).decode


def is_python_literal(value: Any) -> bool:
    """Whether a text is what Python prints for a list or an object, which is not JSON."""
    return isinstance(value, str) and value.lstrip()[:2] in {"[{", "{'", "['", "[("} and "'" in value


def without_nulls(value: Any, notes: Notes) -> Any:
    """The value as trainers read it, whose readers of Parquet and JSON give every object the keys of all.

    Args:
        value: Its keys that hold null are left out, and a number is what a double holds.
        notes: Told where that is another number.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item, notes) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item, notes) for item in value]
    if type(value) is not ExactNumber:
        return value
    notes.say("numbers of tools or their calls have more digits than a double holds, and are rounded as for trainers")
    return float(value)


def _definition(tool: dict[str, Any]) -> dict[str, Any]:
    if "function" in tool or "name" not in tool:
        return tool
    if "input_schema" in tool:  # Anthropic's name for it
        tool = {("parameters" if key == "input_schema" else key): value for key, value in tool.items()}
    return {"type": "function", "function": tool}


def _call(call: Any, where: str, path: str, notes: Notes) -> dict[str, Any]:
    function = parsed(call.get("function", call)) if isinstance(call, dict) else None
    apart = isinstance(function, dict) and "function" in call
    if isinstance(function, str):  # {"function": "name", "arguments": {...}}
        function = {**call, "name": function}
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(function, dict):
        raise RowError(f"a tool call of {where} names no function", code="wrong-type")
    outer = Fields(call, path, notes)
    inner = Fields(function, f"{path}.function", notes) if apart else outer
    inner.take("name" if apart or "function" not in call else "function")
    if call.get("name") == name:
        outer.take("name")
    given = inner.first(_ARGUMENTS)
    if apart and not holds(given):
        given = outer.first(_ARGUMENTS)
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": _arguments(given, notes)}}
    identity = outer.first(("id", "tool_call_id"), str)
    if isinstance(call.get("type"), str) and call["type"] in _SORTS:
        outer.take("type")
    if apart:
        outer.take("function")
        inner.close()
    outer.close()
    return {"id": identity, **made} if identity else made


def _arguments(given: Any, notes: Notes) -> Any:
    """Arguments as an object. In JSON text numbers keep their spelling; elsewhere they are what a double holds."""
    if not holds(given):
        return {}
    if not isinstance(given, str):
        return without_nulls(given, notes)
    try:
        value = _decode_spelt(given)
    except (ValueError, RecursionError):
        return given
    if not isinstance(value, (dict, list)):
        return given
    if exact_json(value) != given:
        notes.say(OTHER_SPELLING)
    return value
