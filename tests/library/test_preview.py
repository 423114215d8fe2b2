"""The dry run shows what is read, what is learned and what is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spice_select.cli import main
from spice_select.errors import DatasetError
from spice_select.ingest import IntakeLimits, IntakeOptions
from spice_select.pipeline.preview import preview

CASES = Path(__file__).parent / "cases"


def test_learned_tokens_are_marked_and_join_to_the_text() -> None:
    found = preview(CASES / "04-weight-zero-turn.jsonl", rows=2)
    assert [row.row for row in found.rows] == [0, 1]
    row = found.rows[0]
    assert row.text is not None
    assert [row.text[span.start : span.end] for span in row.learned] == ["No: 1.<|im_end|>"]
    assert row.text.endswith("<|im_start|>assistant\nNo: 1.<|im_end|>\n")
    assert row.num_tokens is not None
    assert 0 < (row.num_learned or 0) < row.num_tokens
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
    assert shown["rows"][0]["text"] == "a0<|endoftext|>"
    assert shown["rows"][0]["learned"] == [{"start": 0, "end": 15, "weight": 1.0}]


def test_reading_ends_after_the_first_rows_and_columns_that_are_not_used_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "many.jsonl"
    source.write_text("".join(f'{{"instruction": "a{i}", "output": "b{i}", "id": {i}}}\n' for i in range(50)))
    found = preview(source, limits=IntakeLimits(first_rows=20), rows=1)
    assert (found.manifest.num_rows, found.manifest.complete) == (20, False)
    assert found.manifest.unused_columns == {"id": 20}
    assert preview(source, limits=IntakeLimits(first_rows=50), rows=1).manifest.complete
