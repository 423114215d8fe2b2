"""Tool calls in every dialect -> the one that chat templates read: ``function`` with a name and an arguments object."""

from __future__ import annotations

import json
import math
from typing import Any

from spice_select.errors import RowError


def openai_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Calls of a ``tool_calls`` or ``function_call`` value.

    Args:
        value: A list, one call, or either as JSON text; arguments as an object or as JSON text.
        where: What to call the place in an error.

    Raises:
        RowError: ``wrong-type``: a call without a name, or no call at all.
    """
    value = parsed(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise RowError(f"the tool calls of {where} are not a list", code="wrong-type")
    return [_call(parsed(item), where) for item in value if item is not None]


def spoken_calls(text: str) -> list[dict[str, Any]] | None:
    """Calls of a ShareGPT ``function_call`` turn, whose value is JSON; None where it is something else.

    Args:
        text: The value of the turn.
    """
    value = parsed(text)
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and ("name" in call or "function" in call) for call in calls):
        return None
    try:
        return openai_calls(calls, "the turn")
    except RowError:
        return None


def definitions(value: Any, column: str) -> list[dict[str, Any]] | None:
    """Tool definitions of a ``tools`` column: a list or JSON text; None where it holds none.

    Args:
        value: What the column holds.
        column: Its name as it is shown.

    Raises:
        RowError: ``wrong-type``: no list of objects.
    """
    value = parsed(value)
    if value is None or (isinstance(value, str) and not value.strip()) or value == [] or value == {}:
        return None
    tools = [value] if isinstance(value, dict) else value
    tools = [parsed(tool) for tool in tools] if isinstance(tools, list) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        hint = "; it looks like a Python literal, not JSON" if is_python_literal(value) else ""
        raise RowError(f"column {column} holds no list of tool definitions{hint}", code="wrong-type")
    return [without_nulls(_definition(tool)) for tool in tools]


def parsed(value: Any) -> Any:
    """A value, or what it says where it is JSON text of an object or a list."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            return json.loads(value, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            return value
    return value


def _finite(text: str) -> float:
    """A number of JSON text; what no double holds leaves the text as it is.

    Raises:
        ValueError: It is infinite or no number.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def is_python_literal(value: Any) -> bool:
    """Whether a text is what Python prints for a list or an object, which is not JSON."""
    return isinstance(value, str) and value.lstrip()[:2] in {"[{", "{'", "['", "[("} and "'" in value


def without_nulls(value: Any) -> Any:
    """The value without keys that hold null: Parquet and ``load_dataset`` give every object the keys of all."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _definition(tool: dict[str, Any]) -> dict[str, Any]:
    if "function" in tool or "name" not in tool:
        return tool
    if "input_schema" in tool:  # Anthropic's name for it
        tool = {("parameters" if key == "input_schema" else key): value for key, value in tool.items()}
    return {"type": "function", "function": tool}


def _call(call: Any, where: str) -> dict[str, Any]:
    function = parsed(call.get("function", call)) if isinstance(call, dict) else None
    if isinstance(function, str):  # {"function": "name", "arguments": {...}}
        function = {"name": function, **{key: value for key, value in call.items() if key != "function"}}
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(function, dict):
        raise RowError(f"a tool call of {where} names no function", code="wrong-type")
    names = ("arguments", "parameters", "input", "args")
    given = next((source[key] for source in (function, call) for key in names if key in source), None)
    arguments = parsed(given)
    if arguments is None or arguments == "":
        arguments = {}
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": without_nulls(arguments)}}
    identity = call.get("id") or call.get("tool_call_id")
    return {"id": identity, **made} if isinstance(identity, str) else made
