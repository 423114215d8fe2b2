"""What goes out of the cases equals what came in: Parquet, JSON Lines, ``load_dataset`` and every trainer's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig
from spice_select.pipeline.run import RunResult, run
from spice_select.results.json_columns import is_json_text
from spice_select.results.trainers import write_conversations

CASES = Path(__file__).parent / "cases"
NAMES = [
    "01-tool-call-null-content.jsonl", "02-tool-call-is-the-answer.jsonl", "04-weight-zero-turn.jsonl",
    "05-per-turn-flags.jsonl", "06-alpaca-history.json", "07-messages-json-text.csv", "08-content-parts-value.jsonl",
    "08e-content-mixed-text-and-parts.jsonl", "09-preference-sharegpt.jsonl", "09e-kto-label-false.jsonl",
    "12-object-with-data.json", "24-numeric-answers.jsonl", "41-shards-null-type", "47-question-context-answer.jsonl",
    "56-roles.jsonl", "58-reasoning-content-key.jsonl", "70-tool-arguments-objects.jsonl",
    "72-tool-call-without-content-key.jsonl",
]  # fmt: skip


def selected(name: str, out: Path) -> RunResult:
    config = RunConfig(
        selection=SelectionConfig(budget=Budget(count=2)),
        gradients=GradientConfig(
            sketch_dim=8, max_length=512, objective="sft_chosen" if name.startswith("09") else "sft"
        ),
    )
    return run(CASES / name, config, out)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


@pytest.mark.parametrize("name", NAMES)
def test_parquet_equals_json_lines_and_the_folder_loads(tmp_path: Path, name: str) -> None:
    datasets = pytest.importorskip("datasets")
    selected(name, tmp_path / "out")
    rows = lines(tmp_path / "out" / "selected.jsonl")
    table = pq.read_table(tmp_path / "out" / "selected.parquet")
    text = {field.name for field in table.schema if is_json_text(field)}
    read = [
        {key: json.loads(value) if key in text and value is not None else value for key, value in row.items()}
        for row in table.to_pylist()
    ]
    assert [without_nulls(row) for row in read] == [without_nulls(row) for row in rows]
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == len(rows)
    for found, row in zip(loaded, rows, strict=True):
        for key in ("messages", "conversations"):
            if isinstance(row.get(key), list):
                assert isinstance(found[key], list), "a trainer has to see a conversation"
                assert [turn.get("content", turn.get("value")) for turn in found[key]] == [
                    turn.get("content", turn.get("value")) for turn in row[key]
                ]


@pytest.mark.parametrize("trainer", ["trl", "axolotl", "swift"])
def test_trainers_get_calls_tools_reasoning_and_flags(tmp_path: Path, trainer: Any) -> None:
    record = {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "old", "weight": 0},
            {"role": "user", "content": "again"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "content": "3", "name": "f"},
            {"role": "assistant", "content": "done"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    (tmp_path / "selected.jsonl").write_text(json.dumps(record) + "\n")
    columns: Any = {"messages": "messages", "tools": "tools"}
    write_conversations(tmp_path / "selected.jsonl", tmp_path / "train.jsonl", "messages", columns, trainer=trainer)
    (row,) = lines(tmp_path / "train.jsonl")
    assert json.loads(row["tools"]) == record["tools"]
    text = json.dumps(row["messages"])
    assert '\\"a\\"' in text or '"a"' in text
    assert "hm" in text
    assert "done" in text
    old = next(turn for turn in row["messages"] if turn["content"] == "old")
    assert (
        old
        == {
            "trl": {"role": "assistant", "content": "old", "weight": 0.0},
            "axolotl": {"role": "assistant", "content": "old", "train": False},
            "swift": {"role": "assistant", "content": "old", "loss": False},
        }[trainer]
    )


def test_preference_data_comes_out_as_trl_wants_it(tmp_path: Path) -> None:
    pair = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    judged = {"prompt": "q", "completion": "good", "label": True}
    found = []
    for name, record in (("pair", pair), ("judged", judged)):
        (tmp_path / name).write_text(json.dumps(record) + "\n")
        columns: Any = {key: key if key != "response" else "completion" for key in record}
        if name == "judged":
            columns = {"prompt": "prompt", "response": "completion", "label": "label"}
        write_conversations(tmp_path / name, tmp_path / "rows", "preference", columns)
        found.append(lines(tmp_path / "rows")[0])
    asked, good = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "good"}]
    assert found == [
        {"prompt": asked, "chosen": good, "rejected": [{"role": "assistant", "content": "bad"}]},
        {"prompt": asked, "completion": good, "label": True},
    ]
