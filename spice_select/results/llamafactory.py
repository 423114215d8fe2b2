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

_ROLES = {"prompt": "prompt", "input": "query", "response": "response", "system": "system", "text": "prompt"}
"""Our name of a column's role -> LLaMA-Factory's."""


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


def dataset_entry(file_name: str, columns: Mapping[str, str], tags: Mapping[str, str] | None) -> dict[str, Any]:
    """One entry of ``dataset_info.json``.

    Args:
        file_name: File with the rows, beside ``dataset_info.json``.
        columns: Our role -> column of the data set.
        tags: ``TagCount.tags()`` of a data set with a column of messages; None for all others.
    """
    if "messages" in columns:
        mapped = {"messages": columns["messages"]}
        if "system" in columns:
            mapped["system"] = columns["system"]
        return {"file_name": file_name, "formatting": "sharegpt", "columns": mapped, "tags": dict(tags or {})}
    mapped = {_ROLES[role]: column for role, column in columns.items() if role in _ROLES}
    return {"file_name": file_name, "formatting": "alpaca", "columns": mapped}


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
