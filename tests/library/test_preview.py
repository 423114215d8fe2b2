"""The dry run shows what is read, what is learned and what is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spice_select.cli import main
from spice_select.errors import DatasetError
from spice_select.ingest import IntakeOptions
from spice_select.pipeline.preview import preview

CASES = Path(__file__).parent / "cases"


def test_learned_tokens_are_marked_and_join_to_the_text() -> None:
    found = preview(CASES / "04-weight-zero-turn.jsonl", rows=2)
    assert [row.row for row in found.rows] == [0, 1]
    pieces = found.rows[0].pieces
    assert [text for learned, text in pieces if learned] == ["No: 1.<|im_end|>"]
    assert "".join(text for _, text in pieces).endswith("<|im_start|>assistant\nNo: 1.<|im_end|>\n")
    assert found.rejected == [{"row": 4, "code": "nothing-to-learn", "detail": found.rejected[0]["detail"]}]


def test_columns_decide_and_two_readings_are_refused() -> None:
    source = CASES / "49h-prompt-text.jsonl"
    with pytest.raises(DatasetError, match="two ways"):
        preview(source)
    found = preview(source, IntakeOptions(columns={"prompt": "prompt", "response": "text"}))
    assert found.rows[0].messages[1]["content"] == "a0"


def test_the_command_prints_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["preview", str(CASES / "07-messages-json-text.csv"), "--rows", "1"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "form messages (messages=messages)" in said
    assert "columns not used: 'id' (5 rows)" in said
    assert "assistant\n[[a0<|im_end|>]]" in said
    with pytest.raises(SystemExit):
        main(["preview", str(CASES / "49h-prompt-text.jsonl"), "--columns", '{"text": "text"}', "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"]["format"] == "text"
    assert shown["rows"][0]["pieces"] == [[True, "a0<|endoftext|>"]]
