"""What first appears behind the rows that decide the form: read from there on, or the data set is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import spice_select as ss
from spice_select.errors import DatasetError
from spice_select.ingest import DatasetManifest, IntakeLimits, IntakeOptions, iter_rows
from spice_select.ingest.files import numbered
from spice_select.ingest.parse import SAMPLE_ROWS, parse

Row = dict[str, Any]
EARLY = SAMPLE_ROWS + 3


def jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: list[Row]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list({name: None for row in rows for name in row}), restval="")
    writer.writeheader()
    writer.writerows(
        {name: json.dumps(value) if isinstance(value, (list, bool)) else value for name, value in row.items()}
        for row in rows
    )
    return out.getvalue().encode()


def parquet(rows: list[Row]) -> bytes:
    out = io.BytesIO()
    names = list({name: None for row in rows for name in row})
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), out)
    return out.getvalue()


def ask(number: int, **more: Any) -> Row:
    return {"prompt": f"question {number}", "completion": f"answer {number}", **more}


def talk(number: int, **more: Any) -> Row:
    said = [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": f"answer {number}"}]
    return {"messages": said, **more}


def text(number: int, **more: Any) -> Row:
    return {"text": f"text {number}", **more}


LATE: dict[str, tuple[Callable[..., Row], list[Row], str]] = {
    "a label of false": (ask, [ask(1, label=False)], '"label":"label"'),
    "a label of 0": (ask, [ask(1, label=0), ask(2, label=1)], '"label":"label"'),
    "a judged conversation": (talk, [talk(1, kto_tag=False)], '"label":"kto_tag"'),
    "a rejected answer": (ask, [ask(1, rejected="worse")], '"rejected":"rejected"'),
    "a rejected reply": (talk, [talk(1, rejected_response="worse")], '"rejected":"rejected_response"'),
    "pairs": (ask, [{"prompt": "q", "chosen": "a", "rejected": "b"}], '"chosen":"chosen"'),
    "a summary": (text, [text(1, summary="short")], '"response":"summary"'),
    "an instruction": (
        lambda number: {"input": f"question {number}", "output": "a"},
        [{"instruction": "Translate.", "input": "q", "output": "a"}],
        '"prompt":"instruction"',
    ),
}
WRITERS = {"jsonl": jsonl, "csv": as_csv, "parquet": parquet}
CASES = [
    (case, kind)
    for case, (make, _, _) in LATE.items()
    for kind in WRITERS
    # CSV has no lists; a table with an empty column of instructions is read as such from its first row.
    if (kind != "csv" or make is not talk) and (kind == "jsonl" or case != "an instruction")
]


def read(folder: Path, contents: list[bytes], **options: Any) -> tuple[DatasetManifest, Path]:
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    for place, content in enumerate(contents):
        (source / numbered(place, f"file-{place}")).write_bytes(content)
    return parse(source, out, IntakeOptions(**options), IntakeLimits()), out


def readings(error: DatasetError) -> list[dict[str, str]]:
    """The mappings that an error says to send."""
    listed = error.detail.partition("send columns ")[2]
    return [json.loads(piece) for piece in listed.split(" or ")]


@pytest.mark.parametrize("files", [1, 2], ids=["one file", "second file"])
@pytest.mark.parametrize(("case", "kind"), CASES)
def test_what_would_be_read_otherwise_is_refused_and_each_mapping_settles_it(
    tmp_path: Path, case: str, kind: str, files: int
) -> None:
    make, late, named = LATE[case]
    early = [make(number) for number in range(EARLY)]
    write = WRITERS[kind]
    contents = [write(early + late)] if files == 1 else [write(early), write(late)]
    if kind == "csv" and files == 2 and case == "pairs":
        contents[1] = as_csv([{"prompt": "q", "completion": "", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DatasetError) as raised:
        read(tmp_path / "open", contents)
    error = raised.value
    assert error.code == "dataset-columns-ambiguous"
    assert error.errors
    assert error.errors[0]["pointer"] == "#/columns"
    mappings = readings(error)
    assert len(mappings) == 2
    assert named in error.detail
    usable = [read(tmp_path / str(place), contents, columns=columns)[0] for place, columns in enumerate(mappings)]
    assert usable[0].num_usable >= EARLY, "the reading of the first rows"
    assert usable[1].columns.items() >= mappings[1].items()
    assert usable[1].num_usable >= len(late), "the reading of the late ones"


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("late", "role"),
    [
        ({"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]}, "tools"),
        ({"history": [["before", "then"]]}, "history"),
        ({"system": "Be kind."}, "system"),
        ({"reasoning_content": "Because."}, "reasoning"),
        ({"input": "with this"}, "input"),
        ({"context": "given that"}, "input"),
    ],
)
def test_an_optional_column_is_read_from_where_it_appears(tmp_path: Path, kind: str, late: Row, role: str) -> None:
    rows = [{"instruction": f"q {number}", "output": "a"} for number in range(EARLY)]
    rows.append({"instruction": "q", "output": "a", **late})
    manifest, out = read(tmp_path, [WRITERS[kind](rows)])
    assert manifest.columns[role] == next(iter(late))
    assert (manifest.num_usable, manifest.unused_columns) == (EARLY + 1, {})
    last = [row for shard in manifest.shards for row in iter_rows(out / shard.name)][-1].messages
    plain = next(iter_rows(out / manifest.shards[0].name)).messages
    assert (last.tools, [dict(message) for message in last]) != (plain.tools, [dict(message) for message in plain])


def test_a_label_that_is_a_class_is_no_judgement_wherever_that_shows(tmp_path: Path) -> None:
    rows = [ask(number) for number in range(EARLY)] + [ask(1, label=0), ask(2, label=1), ask(3, label=7)]
    manifest, _ = read(tmp_path / "late", [jsonl(rows)])
    assert manifest.format == "prompt_completion"
    assert manifest.unused_columns == {"label": 3}
    sorted_by_class = [ask(number, label=number // EARLY) for number in range(2 * EARLY + 1)]
    with pytest.raises(DatasetError) as raised:
        read(tmp_path / "sorted", [jsonl(sorted_by_class)])
    assert raised.value.code == "dataset-columns-ambiguous"


def test_judged_answers_among_the_first_rows_are_not_outvoted(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as raised:
        read(tmp_path, [jsonl([talk(number) for number in range(60)] + [talk(1, label=False)] * 40)])
    assert raised.value.code == "dataset-columns-ambiguous"


def test_rows_of_another_form_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": "a"}] * EARLY + [{"instruction": "q", "response": "a"}] * 2 + [talk(1)]
    manifest, _ = read(tmp_path, [jsonl(rows)])
    assert manifest.rejected == {"missing-column": 3}
    assert any("would be read as messages" in warning for warning in manifest.warnings)
    assert any('"response":"response"}: 2 rows' in warning for warning in manifest.warnings)


def test_late_turn_flags_and_reasoning_hold_in_every_shard_of_parquet(tmp_path: Path) -> None:
    flagged = talk(1)
    flagged["messages"][1] |= {"weight": 0, "reasoning_content": "so"}
    flagged["messages"] += talk(2)["messages"]
    manifest, out = read(tmp_path, [parquet([talk(number) for number in range(EARLY)]), parquet([flagged])])
    assert manifest.num_usable == EARLY + 1
    last = list(iter_rows(out / manifest.shards[-1].name))[-1].messages
    assert (last[1]["weight"], last[1]["reasoning_content"]) == (0, "so")
    assert "weight" not in last[3]


def test_a_better_answer_where_answers_usually_stand(tmp_path: Path) -> None:
    rejected = [*talk(3)["messages"][:1], {"role": "assistant", "content": "worse"}]
    for place, row in enumerate(
        (talk(3, rejected_response="worse"), talk(3, rejected_messages=rejected), ask(3, rejected="worse"))
    ):
        manifest, out = read(tmp_path / str(place), [jsonl([row])])
        assert manifest.format == "preference"
        (stored,) = iter_rows(out / manifest.shards[0].name)
        said = stored.messages
        assert [message["content"] for message in said] == ["question 3", "answer 3"]
        assert [message["content"] for message in said.rejected or []] == ["worse"]
    manifest, _ = read(tmp_path / "flag", [jsonl([ask(1, rejected=False), ask(2, rejected=True)])])
    assert manifest.format == "prompt_completion"


def test_examples_of_the_library_are_refused_alike() -> None:
    with pytest.raises(DatasetError) as raised:
        ss.load_examples([talk(number) for number in range(5)] + [talk(1, label=False)], None)
    assert raised.value.code == "dataset-columns-ambiguous"
