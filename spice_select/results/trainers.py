"""Hand a result to a trainer: its rows as conversations, and the lines of configuration that read them.

The conversations are those that were measured, with tool calls, tools, reasoning and flags under the names that each
trainer reads. No torch, no pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from spice_select.records.conversation import Conversation, Message, text_of
from spice_select.records.exact_numbers import compact_json, dump_record, load_record
from spice_select.records.formats import ColumnRole, Form
from spice_select.records.records import to_messages

ROWS = "train.jsonl"

Trainer = Literal["trl", "axolotl", "swift"]


def write_conversations(
    selected: Path, target: Path, form: Form, columns: Mapping[ColumnRole, str], *, trainer: Trainer = "trl"
) -> int:
    """Write rows in any record form as ``{"messages": [...]}``, or ``{"text": ...}`` for the form ``text``.

    Args:
        selected: A ``selected.jsonl``.
        target: Where to.
        form: Form of its records.
        columns: Role to column.
        trainer: Whose names are used. Preference data has the columns of TRL for all of them but ms-swift.

    Returns:
        Rows written.
    """
    count = 0
    row_of = _ROWS_OF[trainer]
    partial = target.with_name(f".{target.name}.partial")
    with selected.open("rb") as lines, partial.open("w", encoding="utf-8", newline="\n") as sink:
        for line in lines:
            conversation = to_messages(load_record(line.decode()), form, columns)
            sink.write(dump_record(row_of(conversation)) + "\n")
            count += 1
    partial.replace(target)
    return count


def trl_row(conversation: Conversation) -> dict[str, Any]:
    """A row for TRL: conversations, prompt and completion, or preference data; ``tools`` as JSON text."""
    if conversation[0]["role"] == "text":
        return {"text": conversation[0]["content"]}
    start = conversation.completion
    messages = [_openai(message, "weight") for message in conversation]
    tools = {} if conversation.tools is None else {"tools": compact_json(conversation.tools)}
    if conversation.rejected is not None:
        rejected = [_openai(message, "weight") for message in conversation.rejected]
        return {"prompt": messages[:start], "chosen": messages[start:], "rejected": rejected, **tools}
    if conversation.desirable is not None:
        label = conversation.desirable
        return {"prompt": messages[:start], "completion": messages[start:], "label": label, **tools}
    if start is not None:
        return {"prompt": messages[:start], "completion": messages[start:], **tools}
    return {"messages": messages, **tools}


def axolotl_row(conversation: Conversation) -> dict[str, Any]:
    """A row for Axolotl's ``chat_template``: a turn with the weight 0 says ``train: false``."""
    if conversation[0]["role"] == "text" or conversation.is_preference:
        return trl_row(conversation)
    messages = [_openai(message, "train") for message in _completion_only(conversation)]
    return {"messages": messages, **({} if conversation.tools is None else {"tools": compact_json(conversation.tools)})}


def swift_row(conversation: Conversation) -> dict[str, Any]:
    """A row for ms-swift: calls and results are turns of their own, reasoning stands in ``<think>``."""
    if conversation[0]["role"] == "text":
        return {"messages": [{"role": "assistant", "content": conversation[0]["content"]}]}
    messages = [turn for message in _completion_only(conversation) for turn in _swift(message)]
    row: dict[str, Any] = {"messages": messages}
    if conversation.tools is not None:
        row["tools"] = compact_json(conversation.tools)
    if conversation.rejected is not None:
        before = [turn for message in conversation[: conversation.completion] for turn in _swift(message)]
        row["rejected_messages"] = before + [turn for message in conversation.rejected for turn in _swift(message)]
    if conversation.desirable is not None:
        row["label"] = conversation.desirable
    return row


_ROWS_OF: Final[dict[Trainer, Callable[[Conversation], dict[str, Any]]]] = {
    "trl": trl_row,
    "axolotl": axolotl_row,
    "swift": swift_row,
}


def axolotl_config(rows: Path, form: Form) -> str:
    """The ``datasets`` block of an Axolotl configuration for what ``write_conversations`` wrote."""
    kinds: dict[str, list[str]] = {
        "text": ["type: completion", "field: text"],
        "preference": ["type: chat_template.default", "field_messages: prompt"],
    }
    chat = [
        "type: chat_template",
        "field_messages: messages",
        "field_tools: tools",
        "message_field_training: train",
        "message_field_training_detail: train_detail",
    ]
    # A JSON string is a YAML string.
    return _block([f"path: {json.dumps(str(rows.resolve()))}", "ds_type: json", "split: train", *kinds.get(form, chat)])


def trl_config(rows: Path) -> str:
    """The ``datasets`` block of a TRL configuration (``trl sft --config``) for what ``write_conversations`` wrote."""
    return _block(["path: json", f"data_files: {json.dumps(str(rows.resolve()))}", "split: train"])


def swift_config(rows: Path) -> str:
    """The lines of an ms-swift configuration (``swift sft FILE``) for what ``write_conversations`` wrote."""
    return f"dataset:\n  - {json.dumps(str(rows.resolve()))}\n"


def _openai(message: Message, flag: Literal["weight", "train"]) -> dict[str, Any]:
    """The message with its flag under the trainer's name."""
    made: dict[str, Any] = {key: value for key, value in message.items() if key not in {"weight", "part_weights"}}
    if made["content"] is None:
        made["content"] = ""  # trainers join it with text
    weight = message.get("weight", 1.0)
    if flag == "weight" and weight != 1:
        made["weight"] = weight
    if flag == "train" and weight == 0:
        made["train"] = False
    if "part_weights" in message:
        made.update(_parts(message) if flag == "train" else {"part_weights": message["part_weights"]})
    return made


def _parts(message: Message) -> dict[str, Any]:
    """Ranges of the content that are learned, as Axolotl's ``train_detail`` has them: both ends included."""
    details, place = [], 0
    for size, weight in message.get("part_weights", []):
        if size:
            details.append({"begin_offset": place, "end_offset": place + size - 1, "train": weight > 0})
        place += size
    return {"train_detail": details}


def _completion_only(conversation: Conversation) -> list[Message]:
    """The messages, where what is learned is said by flags: nothing of the prompt beside a completion."""
    start = conversation.completion or 0
    return [
        {**message, "weight": 0.0} if place < start and message["role"] == "assistant" else message
        for place, message in enumerate(conversation)
    ]


def _swift(message: Message) -> list[dict[str, Any]]:
    content = text_of(message)
    if message["role"] == "tool":
        return [{"role": "tool_response", "content": content}]
    if message["role"] != "assistant":
        return [{"role": message["role"], "content": content}]
    weight = message.get("weight", 1.0)
    loss: dict[str, Any] = {} if weight == 1 else {"loss": False} if weight == 0 else {"loss_scale": weight}
    thought = message.get("reasoning_content")
    said = f"<think>\n{thought}\n</think>\n\n{content}" if thought else content
    calls = [
        {"role": "tool_call", "content": compact_json(call["function"]), **loss}
        for call in message.get("tool_calls", [])
    ]
    return [*([{"role": "assistant", "content": said, **loss}] if said or not calls else []), *calls]


def _block(lines: list[str]) -> str:
    return "datasets:\n  - " + "\n    ".join(lines) + "\n"
