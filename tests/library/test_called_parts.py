"""Parts of a content that are calls and results of tools, and images that are named within text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spice_select.errors import RowError
from spice_select.records.accounting import Notes
from spice_select.records.records import to_messages
from tests.library.test_cases import ARGS, TURNS, read, written

CALL = {"name": "f", "arguments": ARGS}


@pytest.mark.parametrize("sort", ["tool_call", "function_call"])
@pytest.mark.parametrize("value", [json.dumps(CALL), CALL, json.dumps([CALL]), json.dumps({"function": CALL})])
def test_a_part_whose_value_is_a_call_is_that_call(sort: str, value: Any) -> None:
    spoken = {"type": "text", "value": "I look."}
    turns = [TURNS[0], {"role": "assistant", "content": [spoken, {"type": sort, "id": "c1", "value": value}]}]
    turns.append({"role": "tool", "content": [{"type": "tool_result", "value": "3", "tool_call_id": "c1"}]})
    turns.append({"role": "assistant", "content": [{"type": "text", "value": "Three."}]})
    notes = Notes()
    made = to_messages({"messages": turns}, "messages", {"messages": "messages"}, notes)
    assert made[1]["content"] == "I look."
    assert made[1]["tool_calls"] == [{"id": "c1", "type": "function", "function": CALL}]
    assert made[2] == {"role": "tool", "content": "3", "tool_call_id": "c1"}


@pytest.mark.parametrize("value", ["f(3)", "{}", '{"arguments": {}}', "[3]", None])
def test_a_part_whose_value_names_no_function_is_refused(value: Any) -> None:
    turns = [TURNS[0], {"role": "assistant", "content": [{"type": "tool_call", "value": value}]}]
    with pytest.raises(RowError, match="names no function"):
        to_messages({"messages": turns}, "messages", {"messages": "messages"})


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "<img>https://a.invalid/1.png</img>What?"}, TURNS[1]]},
        {"instruction": "What?<img>1.png</img>", "output": "A buoy."},
    ],
)
def test_an_image_that_is_named_within_text_is_warned_of(tmp_path: Path, record: dict[str, Any]) -> None:
    manifest, _ = read(written(tmp_path, "\n".join([json.dumps(record)] * 3)), tmp_path / "out")
    assert [text for text in manifest.warnings if "<img>" in text and "3 rows" in text]
    assert manifest.num_usable == 3
