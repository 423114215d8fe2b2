"""Several files as one data set: as if they had been one, whatever their number, and a reason with a name when not."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spice_select.errors import DatasetError
from spice_select.ingest import IntakeLimits, IntakeOptions, numbered, read_dataset, read_rows
from spice_select.ingest.parse import parse
from spice_select.ingest.stored import iter_rows

ROWS: list[dict[str, Any]] = [{"instruction": f"q {n}", "output": "" if n % 7 == 3 else f"a {n}"} for n in range(40)]
CUTS = [0, 1, 13, 25, 40]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_gzip(rows: list[dict[str, Any]]) -> bytes:
    return gzip.compress(as_jsonl(rows), mtime=0)


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    return ("instruction,output\n" + "".join(f"{row['instruction']},{row['output']}\n" for row in rows)).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def folder_of(path: Path, contents: list[bytes], suffix: str = "data") -> Path:
    path.mkdir()
    for position, content in enumerate(contents):
        (path / numbered(position, f"train/part {position}.{suffix}")).write_bytes(content)
    return path


def parsed(source: Path, out: Path, **limits: Any) -> Any:
    out.mkdir()
    return parse(source, out, IntakeOptions(), IntakeLimits(**limits))


@pytest.mark.parametrize("write", [as_jsonl, as_gzip, as_csv, as_parquet])
def test_cut_into_files_the_rows_are_those_of_one_file(tmp_path: Path, write: Any) -> None:
    one = tmp_path / "one"
    one.write_bytes(write(ROWS))
    pieces = [write(ROWS[a:b]) for a, b in pairwise(CUTS)]
    many = folder_of(tmp_path / "many", pieces)
    whole, cut = parsed(one, tmp_path / "a"), parsed(many, tmp_path / "b")
    same = ("rows_sha256", "num_rows", "num_usable", "num_rejected", "rejected", "column_names", "container", "format")
    assert [getattr(cut, name) for name in same] == [getattr(whole, name) for name in same]
    for a, b in zip(whole.shards, cut.shards, strict=True):
        assert list(iter_rows(tmp_path / "a" / a.name)) == list(iter_rows(tmp_path / "b" / b.name))
    assert [shard.rows for shard in cut.source_shards] == [shard.rows for shard in whole.source_shards]
    assert (tmp_path / "a" / "rejected.jsonl").read_bytes() == (tmp_path / "b" / "rejected.jsonl").read_bytes()
    lines = "".join(f"{hashlib.sha256(piece).hexdigest()}\n" for piece in pieces)
    assert cut.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert cut.bytes == sum(map(len, pieces))


def test_a_folder_of_one_file_is_that_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "many", [as_jsonl(ROWS)])
    manifest = read_dataset(folder, tmp_path / "out")
    assert manifest.sha256 == hashlib.sha256(as_jsonl(ROWS)).hexdigest()
    assert read_rows(tmp_path / "out", [0])[0].record == '{"instruction":"q 0","output":"a 0"}'


@pytest.mark.parametrize(
    ("contents", "code", "said"),
    [
        ([], "dataset-empty", "no files"),
        ([as_jsonl(ROWS), b""], "dataset-empty", "part_1.data: the file is empty"),
        ([as_jsonl(ROWS), as_csv(ROWS)], "dataset-files-differ", "part_1.data: it is csv, the first file is jsonl"),
        ([as_jsonl(ROWS), b'{"instruction": 1'], "dataset-invalid-json", "part_1.data: line 1"),
        ([as_jsonl(ROWS), b"PK\x03\x04"], "dataset-files-differ", "part_1.data: it is xlsx"),
        (
            [as_parquet(ROWS), as_parquet([{"instruction": "q", "output": 3}])],
            "dataset-files-differ",
            "part_1.data: column 'output'",
        ),
        ([as_parquet(ROWS), as_parquet(ROWS)[:-4]], "dataset-truncated", "part_1.data"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, contents: list[bytes], code: str, said: str) -> None:
    folder = folder_of(tmp_path / "many", contents)
    with pytest.raises(DatasetError) as caught:
        parsed(folder, tmp_path / "out")
    assert caught.value.code == code
    assert said in caught.value.detail
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("write", [as_jsonl, as_gzip, as_csv, as_parquet])
@pytest.mark.parametrize("limit", ["max_bytes", "max_rows", "max_decoded_bytes"])
def test_limits_hold_for_all_files_together(tmp_path: Path, write: Any, limit: str) -> None:
    one = (
        pa.Table.from_pylist(ROWS).nbytes
        if write is as_parquet
        else len((as_csv if write is as_csv else as_jsonl)(ROWS))
    )
    most = {"max_bytes": 3 * len(write(ROWS)) - 1, "max_rows": 3 * len(ROWS) - 1, "max_decoded_bytes": 2 * one}
    folder = folder_of(tmp_path / "many", [write(ROWS)] * 3)
    parsed(folder, tmp_path / "fine")
    with pytest.raises(DatasetError) as caught:
        parsed(folder, tmp_path / "out", **{limit: most[limit]})
    assert caught.value.code == "dataset-too-large"


def test_a_workbook_that_cannot_be_read_says_what_the_reader_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<a/>")
    with pytest.raises(DatasetError, match=r"no valid workbook part.*export the sheet as CSV") as caught:
        parsed(tmp_path / "empty.xlsx", tmp_path / "out")
    assert caught.value.code == "dataset-unreadable"
