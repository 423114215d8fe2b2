"""Hand a result to a trainer: its rows as conversations, and the lines of configuration that read them.

The conversations are those that were measured. No torch, no pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spice_select.records.formats import ColumnRole, Form
from spice_select.records.records import compact_json, to_messages

ROWS = "train.jsonl"


def write_conversations(
    selected: Path, target: Path, form: Form, columns: Mapping[ColumnRole, str], *, text_as_answer: bool = False
) -> int:
    """Write rows in any record form as ``{"messages": [...]}``, or ``{"text": ...}`` for the form ``text``.

    Args:
        selected: A ``selected.jsonl``.
        target: Where to.
        form: Form of its records.
        columns: Role to column.
        text_as_answer: Write the form ``text`` as one answer without a question, as ms-swift wants it.

    Returns:
        Rows written.
    """
    count = 0
    partial = target.with_name(f".{target.name}.partial")
    with selected.open("rb") as lines, partial.open("w", encoding="utf-8", newline="\n") as sink:
        for line in lines:
            messages = to_messages(json.loads(line), form, columns)
            row: dict[str, Any] = {"messages": messages}
            if form == "text":
                text = messages[0]["content"]
                row = {"messages": [{"role": "assistant", "content": text}]} if text_as_answer else {"text": text}
            sink.write(compact_json(row) + "\n")
            count += 1
    partial.replace(target)
    return count


def axolotl_config(rows: Path, form: Form) -> str:
    """The ``datasets`` block of an Axolotl configuration for what ``write_conversations`` wrote."""
    kind = (
        ["type: completion", "field: text"] if form == "text" else ["type: chat_template", "field_messages: messages"]
    )
    # A JSON string is a YAML string.
    return _block([f"path: {json.dumps(str(rows.resolve()))}", "ds_type: json", "split: train", *kind])


def trl_config(rows: Path) -> str:
    """The ``datasets`` block of a TRL configuration (``trl sft --config``) for what ``write_conversations`` wrote."""
    return _block(["path: json", f"data_files: {json.dumps(str(rows.resolve()))}", "split: train"])


def swift_config(rows: Path) -> str:
    """The lines of an ms-swift configuration (``swift sft FILE``) for what ``write_conversations`` wrote."""
    return f"dataset:\n  - {json.dumps(str(rows.resolve()))}\n"


def _block(lines: list[str]) -> str:
    return "datasets:\n  - " + "\n    ".join(lines) + "\n"
