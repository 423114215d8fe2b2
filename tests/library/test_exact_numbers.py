"""Numbers beyond a double go out as they came in: through ingest, the result's files, the trainers' and the API's."""

from __future__ import annotations

import copy
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig
from spice_select.ingest import iter_rows, read_dataset
from spice_select.pipeline.run import run
from spice_select.records.exact_numbers import ExactNumber, dump_record, is_suspect, load_record, number_of
from spice_select.results.trainers import write_conversations
from spice_select.results.verify import verify_folder
from spice_select.selection.validation import group_of

BEYOND = [
    "0.1234567890123456789012345", "-0.1234567890123456789012345", "1e400", "-1E400", "1e-400", "1.2345e-320",
    "3.14159265358979323846264338327950288", "123456789012345678.25", "1e+999999999999999999999",
    "0.30000000000000000001", "9007199254740993.0", "1" * 300 + ".5",
]  # fmt: skip
WITHIN = ["0.1", "-0.0", "0.0", "1e5", "1.10", "0.30000000000000004", "1e308", "5e-324", "1E-7", "100000000000000.5"]


@pytest.mark.parametrize("text", BEYOND)
def test_what_no_double_holds_keeps_its_text(text: str) -> None:
    assert is_suspect(text)
    found = load_record(f'{{"a": [{text}]}}')["a"][0]
    assert isinstance(found, ExactNumber)
    assert (found.text, dump_record({"a": [found]})) == (text, f'{{"a":[{text}]}}')
    assert copy.deepcopy(found).text == text


@pytest.mark.parametrize("text", WITHIN)
def test_what_a_double_holds_is_one(text: str) -> None:
    found = load_record(f"[{text}]")[0]
    assert type(found) is float
    assert Decimal(repr(found)) == Decimal(text)


def test_no_number_is_taken_for_another() -> None:
    """Against exact arithmetic: a float comes back only where its shortest text is the number."""
    draw = random.Random(17)
    for _ in range(20_000):
        digits = "".join(draw.choices("0123456789", k=draw.randint(1, 22)))
        place = draw.randint(0, len(digits))
        whole = (digits[:place].lstrip("0") or "0") + "." + (digits[place:] or "0")
        text = draw.choice(["", "-"]) + whole + draw.choice(["", f"e{draw.randint(-340, 330)}", "E+5", "e-1"])
        found = number_of(text)
        holds = abs(float(text)) != float("inf") and Decimal(repr(float(text))) == Decimal(text)
        assert (type(found) is float) == holds, text
        if not holds:
            assert is_suspect(text), text


def rows_with(numbers: list[str]) -> str:
    return "".join(
        f'{{"instruction":"Say {n}","output":"It is {n}","score":{text},"deep":{{"list":[1,{text}],"one":1.5}}}}\n'
        for n, text in enumerate(numbers)
    )


@pytest.mark.parametrize("form", ["jsonl", "array", "pretty"])
def test_records_keep_the_text_of_their_numbers(tmp_path: Path, form: str) -> None:
    numbers = [*BEYOND, *WITHIN, "123456789012345678901234567890", "7" * 4000]
    lines = rows_with(numbers).splitlines()
    source = tmp_path / "rows.json"
    if form == "array":
        source.write_text("[" + ",\n".join(lines) + "]")
    else:
        source.write_text("\n".join(line.replace(',"', ',\n  "') if form == "pretty" else line for line in lines))
    manifest = read_dataset(source, tmp_path / "out")
    rows = [row for shard in manifest.shards for row in iter_rows(tmp_path / "out" / shard.name)]
    assert (manifest.num_usable, manifest.rejected) == (len(numbers), {})
    for row, text, line in zip(rows, numbers, lines, strict=True):
        if text in WITHIN:
            assert json.loads(row.record) == json.loads(line)
        else:
            assert row.record == line
            assert dump_record(row.value()) == line
            assert group_of(row.record, "score") == text


def test_numbers_that_nobody_reads_are_refused_by_row(tmp_path: Path) -> None:
    call = '{"name":"f","arguments":{"x":%s}}'
    turns = '{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[%s]}]}\n'
    source = tmp_path / "rows.jsonl"
    source.write_text(
        turns % (call % "1e400") + turns % (call % "0.12345678901234567890") + turns % (call % ("1" * 4301))
    )
    manifest = read_dataset(source, tmp_path / "out")
    assert (manifest.num_usable, manifest.rejected) == (1, {"not-finite-number": 2})


def test_an_answer_that_is_a_number_is_learned_as_it_stands(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(f'{{"question":"q{n}","answer":{text}}}\n' for n, text in enumerate(BEYOND)))
    manifest = read_dataset(source, tmp_path / "out")
    rows = [row for shard in manifest.shards for row in iter_rows(tmp_path / "out" / shard.name)]
    assert [row.messages[1]["content"] for row in rows] == BEYOND
    write_conversations(source, tmp_path / "train.jsonl", manifest.format, manifest.columns)
    written = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["messages"][1]["content"] for row in written] == BEYOND


def test_every_file_of_a_result_has_the_numbers_of_the_source(tmp_path: Path) -> None:
    numbers = [BEYOND[0], BEYOND[2], BEYOND[6], "0.5"]
    source = tmp_path / "rows.jsonl"
    source.write_text(rows_with(numbers))
    config = RunConfig(
        selection=SelectionConfig(budget=Budget(count=4)), gradients=GradientConfig(sketch_dim=4), preset=None
    )
    made = run(source, config, tmp_path / "out")
    lines = made.files["selected.jsonl"].read_text().splitlines()
    assert sorted(lines) == sorted(rows_with(numbers).splitlines())
    stored = pq.read_table(made.files["selected.parquet"]).to_pylist()
    read: list[Any] = [{**row, "score": load_record(row["score"]), "deep": load_record(row["deep"])} for row in stored]
    assert [dump_record(row) for row in read] == lines
    verify_folder(tmp_path / "out", source).raise_if_failed()
    loaded = load_dataset("parquet", data_files=str(made.files["selected.parquet"]), split="train")
    assert sorted(loaded["score"]) == sorted(numbers)
    changed = pq.read_table(made.files["selected.parquet"])
    assert changed.schema.field("score").type == "string"
