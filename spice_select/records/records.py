"""One raw record of a data set becomes a conversation. The forms of records, and how they are found, are in ``forms``.

Why a row cannot be used (codes are stable; the first two blocks are found here, the last by the reader of the file):

    not-an-object        the record is a list, a text, a number, true, false or null
    missing-column       a column the form needs, or a message's content, is not there
    wrong-type           a column, a message or a part of one is of a type that holds no text
    no-text              the ``text`` column is empty
    empty-prompt         nothing but white space is asked
    empty-response       nothing but white space is answered
    no-assistant-turn    a conversation in which nobody answers
    unknown-role         a speaker that is none of system, user, assistant, tool and their usual other names

    invalid-unicode      half of a surrogate pair, bytes that are no UTF-8, or a null character in a column name
    too-long             more bytes than a row may have
    too-deep             nested deeper than a row may be
    duplicate-key        an object that has the same key twice
    not-finite-number    a number too large to be held (1e999)
    wrong-column-count   a CSV row with more or fewer fields than the header

White space only counts as empty; text that is kept is kept as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

from spice_select.errors import RowError
from spice_select.records.formats import FORMS, ColumnRole, Form, detect_form

__all__ = [
    "FORMS",
    "ColumnRole",
    "Form",
    "Message",
    "Role",
    "compact_json",
    "detect_form",
    "row_sha256",
    "rows_sha256",
    "to_messages",
]

Role = Literal["system", "user", "assistant", "tool", "text"]


class Message(TypedDict):
    """One turn of a conversation. Role ``text`` is the whole of a ``text`` record: everything in it is learned."""

    role: Role
    content: str


_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
}


def to_messages(record: object, form: Form, columns: Mapping[ColumnRole, str]) -> list[Message]:
    """The conversation a record stands for.

    An Alpaca prompt is the instruction, a blank line and the input, as one user message.

    Args:
        record: One record of the data set.
        form: Its form.
        columns: Role to column, as ``detect_form`` returns it.

    Returns:
        At least one message; for every form but ``text`` at least one user or tool message that is not blank, and
        after it an assistant message that is not blank.

    Raises:
        RowError: The record cannot be used; the codes are those of the module's table.
    """
    if not isinstance(record, dict):
        raise RowError(f"the record is {_kind(record)}, not an object", code="not-an-object")
    if form == "text":
        text = _text(record, columns["text"], code="no-text")
        return [{"role": "text", "content": text}]
    if form in {"messages", "sharegpt"}:
        conversation = _conversation(_column(record, columns["messages"]), columns["messages"])
    else:
        conversation = _prompt(record, columns) + _response(record, columns)
    system = columns.get("system")
    if system is not None and conversation[0]["role"] != "system":
        said = record.get(system)
        if said is not None and not isinstance(said, str):
            raise RowError(f"column {_quoted(system)} holds {_kind(said)}, not text", code="wrong-type")
        if said is not None and said.strip():
            conversation.insert(0, {"role": "system", "content": said})
    _check_conversation(conversation)
    return conversation


def _prompt(record: dict[str, Any], columns: Mapping[ColumnRole, str]) -> list[Message]:
    asked = _column(record, columns["prompt"])
    if isinstance(asked, list):
        if not asked:
            raise RowError(f"column {_quoted(columns['prompt'])} is empty", code="empty-prompt")
        return _conversation(asked, columns["prompt"])
    has_input = "input" in columns and record.get(columns["input"]) is not None
    parts = [_text(record, columns["prompt"], code=None)]
    if has_input:
        parts.append(_text(record, columns["input"], code=None))
    said = [part for part in parts if part.strip()]
    if not said:
        raise RowError(f"column {_quoted(columns['prompt'])} is empty", code="empty-prompt")
    return [{"role": "user", "content": "\n\n".join(said)}]


def _response(record: dict[str, Any], columns: Mapping[ColumnRole, str]) -> list[Message]:
    answered = _column(record, columns["response"])
    if isinstance(answered, list):
        if not answered:
            raise RowError(f"column {_quoted(columns['response'])} is empty", code="empty-response")
        return _conversation(answered, columns["response"])
    return [{"role": "assistant", "content": _text(record, columns["response"], code="empty-response")}]


def _column(record: dict[str, Any], column: str) -> Any:
    if column not in record:
        raise RowError(f"there is no column {_quoted(column)}", code="missing-column")
    return record[column]


def _text(record: dict[str, Any], column: str, *, code: str | None) -> str:
    # Null counts as empty, and empty is an error where the caller has a code for it.
    value = _column(record, column)
    if value is not None and not isinstance(value, str):
        raise RowError(f"column {_quoted(column)} holds {_kind(value)}, not text", code="wrong-type")
    text = value or ""
    if code is not None and not text.strip():
        raise RowError(f"column {_quoted(column)} is {'null' if value is None else 'empty'}", code=code)
    return text


def _conversation(value: Any, column: str) -> list[Message]:
    if value is None or value == []:
        raise RowError(f"column {_quoted(column)} holds no messages", code="no-assistant-turn")
    if not isinstance(value, list):
        raise RowError(f"column {_quoted(column)} holds {_kind(value)}, not a list of messages", code="wrong-type")
    return [_message(turn, f"message {index + 1} of column {_quoted(column)}") for index, turn in enumerate(value)]


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"{where} is {_kind(turn)}, not an object", code="wrong-type")
    spoken = turn.get("role", turn.get("from"))
    if not isinstance(spoken, str):
        raise RowError(f"{where} says no role", code="unknown-role")
    role = _ROLES.get(spoken.strip().lower())
    if role is None:
        raise RowError(f"{where} has the unknown role {_quoted(spoken)}", code="unknown-role")
    if "content" not in turn and "value" not in turn:
        raise RowError(f"{where} has no content", code="missing-column")
    return {"role": role, "content": _content(turn["content"] if "content" in turn else turn["value"], where)}


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RowError(f"the content of {where} is {_kind(content)}, not text", code="wrong-type")
    parts: list[str] = []
    for part in content:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str) or (isinstance(part, dict) and part.get("type", "text") != "text"):
            raise RowError(f"a part of the content of {where} is not text", code="wrong-type")
        parts.append(text)
    return "".join(parts)


def _check_conversation(conversation: Sequence[Message]) -> None:
    answers = [index for index, message in enumerate(conversation) if message["role"] == "assistant"]
    if not answers:
        raise RowError("the conversation has no assistant message", code="no-assistant-turn")
    last = answers[-1]
    if not conversation[last]["content"].strip():
        raise RowError("the last assistant message is empty", code="empty-response")
    before = conversation[:last]
    if not any(message["role"] in {"user", "tool"} and message["content"].strip() for message in before):
        raise RowError("no user message that is not empty comes before the last answer", code="empty-prompt")


compact_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""The one way a record is written: no spaces, keys in their own order, characters as they are."""


def row_sha256(record: str) -> str:
    """Digest (hex) of one row: sha256 of the UTF-8 bytes of its compact JSON, its line in ``selected.jsonl``."""
    return hashlib.sha256(record.encode()).hexdigest()


def rows_sha256(digests: Iterable[str]) -> str:
    """Digest (hex) of rows in order: sha256 over their hex digests, each followed by a newline."""
    whole = hashlib.sha256()
    for digest in digests:
        whole.update(digest.encode() + b"\n")
    return whole.hexdigest()


def _quoted(name: str) -> str:
    """A name out of the data, safe to show: escaped and at most 60 characters."""
    shown = name if len(name) <= 60 else name[:57] + "..."
    return ascii(shown)


def _kind(value: object) -> str:
    kinds: dict[type, str] = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return kinds.get(type(value), type(value).__name__)
