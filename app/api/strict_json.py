"""JSON read without forgiveness: what two readers may understand differently is refused."""

from __future__ import annotations

import json
import re
from typing import Any

from app.api.problems import BodyError

MAX_DEPTH = 64


def strict_json(body: bytes) -> Any:
    """A text in JSON: UTF-8, no NaN, no key twice, no deep nesting, no lone surrogates.

    Args:
        body: The text, which errors call "the body".

    Raises:
        BodyError: ``malformed-request``, ``validation-error`` for NaN, infinity and half of a surrogate pair.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyError("malformed-request", f"the body is not UTF-8 (byte {error.start})") from error
    if _depth(text) > MAX_DEPTH:
        raise BodyError("malformed-request", f"the body is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        detail = f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise BodyError("malformed-request", detail) from error
    except (RecursionError, ValueError) as error:
        raise BodyError("malformed-request", "the body holds a number that is too long") from error
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BodyError("validation-error", "the body holds half of a surrogate pair") from error
    return value


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings."""
    deepest = level = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        token = match[0]
        if token in {"[", "{"}:
            level += 1
            deepest = max(deepest, level)
        elif token in {"]", "}"}:
            level -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BodyError("malformed-request", f"the body names the key {twice[:100]!r} twice")
    return value


def _refuse(name: str) -> Any:
    raise BodyError("validation-error", f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise BodyError("validation-error", f"{text[:40]} is too large for a number")
    return value
