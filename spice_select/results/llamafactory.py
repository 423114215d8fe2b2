"""The entry of a result in LLaMA-Factory's ``dataset_info.json``, and the merging of it into a file that is there."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spice_select.errors import ConfigError

# The spellings of spice_select.records.records, in the terms of LLaMA-Factory's tags.
_USER = ("user", "human")
_ASSISTANT = ("assistant", "gpt", "chatgpt", "bing", "bard", "bot", "model")
_OBSERVATION = ("tool", "function", "ipython", "observation")
_FUNCTION = ("function_call",)
_SYSTEM = ("system", "developer")

_ROLES = {
    "prompt": "prompt", "input": "query", "history": "history", "response": "response", "system": "system",
    "tools": "tools", "text": "prompt", "messages": "messages", "chosen": "chosen", "rejected": "rejected",
    "label": "kto_tag",
}  # fmt: skip
"""Our name of a column's role -> LLaMA-Factory's."""
_LISTS = frozenset({"messages", "history", "tools"})


class TagCount:
    """Which keys and role names the messages of a result use; LLaMA-Factory wants them spelt out.

    Args:
        column: Column that holds the list of messages.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._keys: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()

    def observe(self, record: Mapping[str, Any]) -> None:
        """Count the keys and role names of one record."""
        messages = record.get(self._column)
        for message in messages if isinstance(messages, list) else []:
            if isinstance(message, dict):
                self._keys.update(message.keys())
                role = message.get("role", message.get("from"))
                if isinstance(role, str):
                    self._roles[role] += 1

    @property
    def calls_tools(self) -> bool:
        """Whether a message has tool calls in OpenAI's form."""
        return self._keys["tool_calls"] > 0

    def tags(self) -> dict[str, str]:
        """The ``tags`` object: the most frequent spelling of each."""
        return {
            "role_tag": self._most_frequent(self._keys, ("role", "from")),
            "content_tag": self._most_frequent(self._keys, ("content", "value")),
            "user_tag": self._most_frequent(self._roles, _USER),
            "assistant_tag": self._most_frequent(self._roles, _ASSISTANT),
            "observation_tag": self._most_frequent(self._roles, _OBSERVATION),
            "function_tag": self._most_frequent(self._roles, _FUNCTION),
            "system_tag": self._most_frequent(self._roles, _SYSTEM),
        }

    @staticmethod
    def _most_frequent(counts: Counter[str], names: tuple[str, ...]) -> str:
        # Case as it stands in the data: LLaMA-Factory compares exactly.
        spellings = {spelling: count for spelling, count in counts.items() if spelling.lower() in names}
        return max(spellings, key=lambda spelling: (spellings[spelling], spelling)) if spellings else names[0]


def is_known(columns: Mapping[str, str]) -> bool:
    """Whether LLaMA-Factory has a column for each role, and a place for the better answer of a pair."""
    if not all(role in _ROLES for role in columns):
        return False
    answered = "chosen" in columns or "response" in columns
    return "rejected" not in columns or (answered and ("messages" in columns or "prompt" in columns))


def is_read(record: Mapping[str, Any], columns: Mapping[str, str]) -> bool:
    """Whether LLaMA-Factory reads all of a record: no list of messages in a prompt or an answer, no half of a pair.

    Args:
        record: The record.
        columns: Our role -> column of the data set.
    """
    lists = any(isinstance(record.get(column), list) for role, column in columns.items() if role not in _LISTS)
    if lists or "rejected" not in columns:
        return not lists
    # The answers of a pair are turns beside turns, and texts beside a text; an answer of another kind is left empty.
    sort = dict if "messages" in columns else str
    better = _better(columns)
    return isinstance(record.get(better), sort) and isinstance(record.get(columns["rejected"]), sort)


def _better(columns: Mapping[str, str]) -> str:
    """The column of the better answer of a pair."""
    return columns.get("chosen", columns.get("response", ""))


def dataset_entry(
    file_name: str, columns: Mapping[str, str], tags: Mapping[str, str] | None, *, calls_tools: bool = False
) -> dict[str, Any]:
    """One entry of ``dataset_info.json``.

    Args:
        file_name: File with the rows, beside ``dataset_info.json``.
        columns: Our role -> column of the data set.
        tags: ``TagCount.tags()`` of a data set with a column of messages; None for all others.
        calls_tools: Whether its messages have tool calls in OpenAI's form.
    """
    mapped = {_ROLES[role]: column for role, column in columns.items() if role in _ROLES}
    entry: dict[str, Any] = {"file_name": file_name}
    if "rejected" in columns:
        entry["ranking"], mapped["chosen"] = True, _better(columns)
        mapped.pop("response", None)
    if "messages" in columns:
        formatting = "openai" if calls_tools else "sharegpt"
        return {**entry, "formatting": formatting, "columns": mapped, "tags": dict(tags or {})}
    return {**entry, "formatting": "alpaca", "columns": mapped}


def merge_dataset_info(path: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to a ``dataset_info.json``, leaving every other entry as it is.

    Args:
        path: The file; made when missing.
        entries: Name -> entry. An equal entry that is there already is left alone.

    Raises:
        ConfigError: The file is no JSON object, or holds another entry of that name.
    """
    existing: Any = {}
    if path.exists():
        try:
            existing = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is not valid JSON, so nothing was added to it: {error}") from error
        if not isinstance(existing, dict):
            raise ConfigError(f"{path} is not a JSON object, so nothing was added to it")
    for name, entry in entries.items():
        if name in existing and existing[name] != entry:
            raise ConfigError(f"{path} already has another entry named {name!r}; choose another name or remove it")
    merged = {**existing, **entries}
    if merged == existing and path.exists():
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    scratch.write_text(json.dumps(merged, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)
