"""Where the records are in a JSON file that begins with an object and is not JSON Lines."""

from __future__ import annotations

import json
import re
from typing import Any, Final, Literal

from spice_select.records.formats import CONVERSATION, FORMS, roles_of, usual_columns

Layout = Literal["array", "values", "by-id"]

_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}:,]', re.DOTALL)
_ROWS: Final = ("train", "data", "rows", "examples", "records", "items", "instances", "samples", "dataset")
_COLUMNS: Final = frozenset(name for form in FORMS for role in roles_of(form) for name in usual_columns(form, role))


def json_layout(head: bytes) -> tuple[Layout, int, str] | None:
    """Layout of a file that begins with ``{``, the byte to begin at, and what a person should know about it.

    Args:
        head: Its first bytes, from the opening bracket on.

    Returns:
        None where it is JSON Lines: its first line is a whole object, or broken within the line.
    """
    first, _, rest = head.partition(b"\n")
    whole = _value(first)
    if whole is not None and rest.strip():
        return None
    members = _members(head)
    if whole is None and not members:
        return None
    if whole is None and rest and not _is_open(first):
        return None
    lists = {name: offset for name, (offset, start) in members.items() if start == b"[{"}
    rows = {name: offset for name, offset in lists.items() if name.lower() not in CONVERSATION}
    is_record = any(name.lower() in _COLUMNS for name in members if name.lower() not in _ROWS)
    if rows and not is_record:
        name = next((name for name in _ROWS if name in rows), next(iter(rows)))
        others = [other for other in rows if other != name]
        left = f"; not read: {', '.join(ascii(other[:60]) for other in others[:10])}" if others else ""
        return "array", rows[name], f"the rows are those under the key {name[:60]!a}{left}"
    objects = [start[:1] == b"{" for _, start in members.values()]
    if members and all(objects) and not is_record and len(objects) > 1:
        return "by-id", 0, "the rows are the members of one object, and their names the column 'id'"
    return None if whole is not None or not rest else ("values", 0, "")


def _value(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None


def _is_open(line: bytes) -> bool:
    """Whether more brackets are opened than closed at the end of a line, outside strings."""
    depth = 0
    for match in _TOKEN.finditer(line):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(match[0], 0)
    return depth > 0 and line.count(b'"') % 2 == line.count(b'\\"') % 2


def _members(head: bytes) -> dict[str, tuple[int, bytes]]:
    """Members of the first object as far as the head goes: where each value begins, and its first brackets."""
    members: dict[str, tuple[int, bytes]] = {}
    depth, name, key = 0, b"", True
    for match in _TOKEN.finditer(head):
        mark = match[0]
        if depth == 1 and mark[:1] == b'"' and key:
            name = mark
        elif depth == 1 and mark == b":":
            value = head[match.end() : match.end() + 4096].lstrip()
            offset = match.end() + len(head[match.end() : match.end() + 4096]) - len(value)
            start = value[:1] + value[1:].lstrip()[:1]
            label = _value(name)
            if isinstance(label, str):
                members[label] = (offset, start)
            key = False
        elif depth == 1 and mark == b",":
            key = True
        elif mark in {b"{", b"["}:
            depth += 1
        elif mark in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                break
    return members
