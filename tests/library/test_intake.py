"""Good files of every container, compression and form become the same rows; what is stored can be read again."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.ingest import (
    SHARD_ROWS,
    DatasetManifest,
    IntakeLimits,
    IntakeOptions,
    iter_rows,
    read_dataset,
    read_rows,
    read_source_rows,
)
from spice_select.ingest.parse import parse
from spice_select.records.exact_numbers import compact_json
from spice_select.records.records import row_sha256, rows_sha256
from tests.fixtures.examples import examples

Record = dict[str, Any]
Encode = Callable[[list[Record]], bytes]


def as_jsonl(records: list[Record]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def as_array(records: list[Record]) -> bytes:
    return json.dumps(records, indent=2, ensure_ascii=False).encode()


def as_csv(records: list[Record], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def as_parquet(records: list[Record]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out)
    return out.getvalue()


CONTAINERS: dict[str, Encode] = {"jsonl": as_jsonl, "json": as_array, "csv": as_csv, "parquet": as_parquet}
TEXTS = [
    "plain",
    'comma, "quote"',
    "two\nlines",
    "naïve 数学 🙂",
    "bar | semi; tab\t",
    "a\u2028b\u0085c",
    "<|im_end|>",
    "\\n",
]

FLAT_FORMS: dict[str, Callable[[int, str], Record]] = {
    "alpaca": lambda i, text: {"id": str(i), "instruction": f"{text} {i}", "input": "", "output": text},
    "prompt_completion": lambda i, text: {"prompt": f"{text} {i}", "completion": text},
    "question_answer": lambda i, text: {"question": f"{text} {i}", "answer": text},
    "text": lambda i, text: {"text": f"{text} {i}"},
}
NESTED_FORMS: dict[str, Callable[[int, str], Record]] = {
    "messages": lambda i, text: {
        "messages": [{"role": "user", "content": f"{text} {i}"}, {"role": "assistant", "content": text}],
        "source": "s",
    },
    "sharegpt": lambda i, text: {
        "conversations": [{"from": "human", "value": f"{text} {i}"}, {"from": "gpt", "value": text}]
    },
}
FORMS = FLAT_FORMS | NESTED_FORMS


def records_of(form: str, count: int = 16) -> list[Record]:
    return [FORMS[form](index, TEXTS[index % len(TEXTS)]) for index in range(count)]


def ingest(folder: Path, content: bytes, **options: Any) -> tuple[DatasetManifest, Path]:
    """Parse in this process: the child process has tests of its own."""
    source, out = folder / "source", folder / "out"
    source.write_bytes(content)
    out.mkdir(exist_ok=True)
    return parse(source, out, IntakeOptions(**options), IntakeLimits()), out


def stored(out: Path, manifest: DatasetManifest) -> list[Any]:
    return [row for shard in manifest.shards for row in iter_rows(out / shard.name)]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("form", "container"),
    # CSV has no lists.
    [(form, container) for form in FORMS for container in CONTAINERS if form in FLAT_FORMS or container != "csv"],
)
def test_every_form_in_every_container(tmp_path: Path, form: str, container: str, compressed: bool) -> None:
    records = records_of(form)
    content = CONTAINERS[container](records)
    manifest, out = ingest(tmp_path, gzip.compress(content, mtime=0) if compressed else content)
    assert (manifest.container, manifest.compression) == (container, "gzip" if compressed else "none")
    assert manifest.format == form
    assert (manifest.num_rows, manifest.num_usable, manifest.num_rejected) == (len(records), len(records), 0)
    assert manifest.column_names == list(records[0])
    rows = stored(out, manifest)
    assert [row.value() for row in rows] == records
    assert [row.source_row for row in rows] == list(range(len(records)))
    for row, text in zip(rows, TEXTS * 2, strict=True):
        assert row.messages[-1]["content"].startswith(text)


def test_equal_records_have_equal_digests_whatever_held_them(tmp_path: Path) -> None:
    records = records_of("alpaca")
    digests = set()
    for name, encode in CONTAINERS.items():
        (tmp_path / name).mkdir()
        digests.add(ingest(tmp_path / name, encode(records))[0].rows_sha256)
    assert digests == {rows_sha256(row_sha256(compact_json(record)) for record in records)}


def test_digests_of_file_rows_and_shards(tmp_path: Path) -> None:
    content = as_jsonl(records_of("messages"))
    manifest, out = ingest(tmp_path, content)
    assert (manifest.bytes, manifest.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    rows = stored(out, manifest)
    assert all(row.row_sha256 == hashlib.sha256(row.record.encode()).hexdigest() for row in rows)
    assert manifest.rows_sha256 == rows_sha256(row.row_sha256 for row in rows)
    for shard in manifest.shards:
        written = (out / shard.name).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(written), hashlib.sha256(written).hexdigest())
    assert DatasetManifest.model_validate_json((out / "manifest.json").read_text()) == manifest


def test_rows_that_cannot_be_used_are_counted_and_listed(tmp_path: Path) -> None:
    good = '{"instruction":"q","output":"a"}'
    lines = [
        good,
        '{"instruction":"q","output":" "}',
        "",
        "[1]",
        '{"instruction":"","output":"a"}',
        '{"instruction":"q"}',
        "   ",
        '{"instruction":"q","output":true}',
        '{"instruction":"q","output":"a","output":"b"}',
        '{"instruction":"q","output":"a","x":' + "1" * 4301 + "}",
        '{"instruction":"q","output":"a","x":-' + "9" * 5000 + "}",
        '{"instruction":"\\ud800","output":"a"}',
        '{"instruction":"q","output":"a","k\\u0000":1}',
        '{"instruction":"q","output":"a","x":' + "[" * 64 + "]" * 64 + "}",
        '{"instruction":"q","output":"' + "x" * (4 * 2**20) + '"}',
        good,
    ]
    manifest, out = ingest(tmp_path, "\n".join(lines).encode())
    listed = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [(item["row"], item["code"]) for item in listed] == [
        (1, "empty-response"),
        (2, "not-an-object"),
        (3, "empty-prompt"),
        (4, "missing-column"),
        (5, "wrong-type"),
        (6, "duplicate-key"),
        (7, "not-finite-number"),
        (8, "not-finite-number"),
        (9, "invalid-unicode"),
        (10, "invalid-unicode"),
        (11, "too-deep"),
        (12, "too-long"),
    ]
    assert all(item["detail"] for item in listed)
    assert manifest.rejected == {
        "duplicate-key": 1,
        "empty-prompt": 1,
        "empty-response": 1,
        "invalid-unicode": 2,
        "missing-column": 1,
        "not-an-object": 1,
        "not-finite-number": 2,
        "too-deep": 1,
        "too-long": 1,
        "wrong-type": 1,
    }
    assert (manifest.num_rows, manifest.num_usable, manifest.num_rejected) == (14, 2, 12)
    assert [row.source_row for row in stored(out, manifest)] == [0, 13]
    assert manifest.warnings == ["12 of 14 rows cannot be used"]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"\xef\xbb\xbf" + as_jsonl(records_of("alpaca")), 16),
        (b"\xef\xbb\xbf" + as_array(records_of("alpaca")), 16),
        (b"\xef\xbb\xbf" + as_csv(records_of("alpaca")), 16),
        (as_jsonl(records_of("alpaca")).replace(b"\n", b"\r\n"), 16),
        (as_jsonl(records_of("alpaca")).replace(b"\n", b"\n\n \t\r\n"), 16),
        (as_jsonl(records_of("alpaca")).rstrip(b"\n"), 16),
        (b" \n\n" + as_jsonl(records_of("alpaca")), 16),
        (b"\n \n" + as_array(records_of("alpaca")) + b"\n\n", 16),
        (json.dumps(records_of("alpaca")).encode(), 16),
        (gzip.compress(as_jsonl(records_of("alpaca")), mtime=0) * 2, 32),
        (gzip.compress(as_jsonl(records_of("alpaca")), mtime=0) + bytes(512), 16),
        (as_csv(records_of("alpaca"), delimiter=";"), 16),
        (as_csv(records_of("alpaca"), delimiter="\t"), 16),
        (b'text\nhello\n\n"two\nlines"\n', 2),
        (b",instruction,output\n0,a,b\n1,c,d\n", 2),
        (b"question;answer\na,b,c;d,e\n", 1),
        (b"[1]\n" + as_jsonl(records_of("alpaca")), 17),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else str(value),
)
def test_harmless_differences_are_taken(tmp_path: Path, content: bytes, rows: int) -> None:
    manifest, _ = ingest(tmp_path, content)
    assert manifest.num_rows == rows
    assert manifest.num_usable >= rows - 1


def test_csv_rows_of_another_width_are_listed(tmp_path: Path) -> None:
    manifest, out = ingest(tmp_path, b'instruction,output\na,b\nc\n"x\ny","z"\nd,e,f\n')
    assert (manifest.rejected, manifest.num_usable) == ({"wrong-column-count": 2}, 2)
    assert stored(out, manifest)[1].value() == {"instruction": "x\ny", "output": "z"}


def test_options_decide_over_detection(tmp_path: Path) -> None:
    content = as_jsonl([{"instruction": "q", "output": "a", "text": "whole", "q": "other", "a": "reply"}])
    manifest, out = ingest(tmp_path, content, format="text")
    assert (manifest.format, manifest.columns) == ("text", {"text": "text"})
    manifest, out = ingest(tmp_path, content, columns={"prompt": "q", "response": "a"})
    assert stored(out, manifest)[0].messages == [
        {"role": "user", "content": "other"},
        {"role": "assistant", "content": "reply"},
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"prompt": "q", "text": "t"}},
        {"format": "text", "columns": {"prompt": "q"}},
        {"columns": {"answer": "a"}},
        {"columns": {"prompt": ""}},
        {"format": "chatml"},
        {"formats": "text"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="IntakeOptions"):
        IntakeOptions(**options)


def test_long_data_sets_are_cut_into_full_shards(tmp_path: Path) -> None:
    count = 2 * SHARD_ROWS + 5
    records = [{"question": f"q {index}", "answer": "" if index % 7 == 3 else "a"} for index in range(count * 7 // 6)]
    manifest, out = ingest(tmp_path, as_jsonl(records))
    usable = [index for index, record in enumerate(records) if record["answer"]]
    assert [shard.rows for shard in manifest.shards] == [SHARD_ROWS, SHARD_ROWS, len(usable) - 2 * SHARD_ROWS]
    assert [row.source_row for row in stored(out, manifest)] == usable
    positions = [2 * SHARD_ROWS + 1, 0, SHARD_ROWS, SHARD_ROWS - 1, 0]
    found = read_rows(out, positions)
    assert [row.source_row for row in found] == [usable[position] for position in positions]
    assert read_rows(out, []) == []
    assert read_source_rows(out, positions) is None
    for missing in (len(usable), -1, 10**9):
        with pytest.raises(IndexError):
            read_rows(out, [0, missing])


def test_equal_bytes_give_equal_files_and_replace_what_was_there(tmp_path: Path) -> None:
    # Enough bytes that a shard has several row groups, and rows rejected in between.
    records = [{"instruction": f"q {index}", "output": "ab" * 9000 if index % 9 else ""} for index in range(1500)]
    content = as_jsonl(records)
    first, out = ingest(tmp_path, content)
    names = sorted(path.name for path in out.iterdir())
    before = {name: (out / name).read_bytes() for name in names}
    (out / "rows-00099.parquet").write_bytes(b"left over")
    (out / ".rows-00001.parquet.part").write_bytes(b"left over")
    (out / "notes.txt").write_text("not ours")
    second, _ = ingest(tmp_path, content)
    assert first == second
    assert {name: (out / name).read_bytes() for name in names} == before
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "notes.txt"])


def test_the_child_process_writes_what_parsing_here_writes(tmp_path: Path) -> None:
    records = records_of("sharegpt", 1100)
    manifest, out = ingest(tmp_path, gzip.compress(as_jsonl(records)))
    seen: list[tuple[int, int, int]] = []
    there = read_dataset(
        tmp_path / "source",
        tmp_path / "made" / "there",
        on_progress=lambda *now: seen.append(now),
        should_stop=lambda: False,
    )
    assert there == manifest
    names = sorted(path.name for path in out.iterdir())
    assert sorted(path.name for path in (tmp_path / "made" / "there").iterdir()) == names
    for name in names:
        assert (tmp_path / "made" / "there" / name).read_bytes() == (out / name).read_bytes()
    assert seen[-1] == (1100, manifest.bytes, manifest.bytes)
    assert seen == sorted(seen)


KEY = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=6)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
EXTRA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3), max_leaves=5
)


@settings(max_examples=examples(60))
@given(
    st.lists(st.tuples(st.text(), st.text(), st.dictionaries(KEY, EXTRA, max_size=3)), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([None, 0, 2]),
    st.sampled_from(["jsonl", "json"]),
)
def test_json_round_trip(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Any], ascii_only: bool, indent: int | None, container: str
) -> None:
    records = [extra | {"question": "q" + asked, "answer": answered + "."} for asked, answered, extra in drawn]
    if container == "json":
        content = json.dumps(records, ensure_ascii=ascii_only, indent=indent)
    else:
        content = "\n".join(json.dumps(record, ensure_ascii=ascii_only) for record in records)
    manifest, out = ingest(tmp_path_factory.mktemp("round"), content.encode())
    assert manifest.container == container
    rows = stored(out, manifest)
    assert [row.value() for row in rows] == records
    assert [row.messages for row in rows] == [
        [{"role": "user", "content": record["question"]}, {"role": "assistant", "content": record["answer"]}]
        for record in records
    ]
