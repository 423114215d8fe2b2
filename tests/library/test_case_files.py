"""The same rows in every format, layout, compression and encoding that people have them in."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spice_select.errors import DatasetError
from tests.library.test_cases import CASES, read, written

ROWS = [{"instruction": f"Frage {i}: wie heißt das?", "output": f"Das heißt Ärger, {i} Mal über"} for i in range(30)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = "instruction\toutput\n" + "".join(f"{row['instruction']}\t{row['output']}\n" for row in ROWS)


def zipped(**files: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return held.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def workbook() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["instruction", "output", None])
    for row in ROWS:
        book.active.append([row["instruction"], row["output"]])
    held = io.BytesIO()
    book.save(held)
    return held.getvalue()


FORMS: dict[str, bytes] = {
    "jsonl": LINES.encode(),
    "gzip": gzip.compress(LINES.encode()),
    "bzip2": bz2.compress(LINES.encode()),
    "xz": lzma.compress(LINES.encode()),
    "zstd": zstd(LINES.encode()),
    "zip of one": zipped(data__jsonl=LINES, README__md="# about"),
    "zip of two": zipped(
        a__jsonl="".join(LINES.splitlines(keepends=True)[:10]), b__jsonl="".join(LINES.splitlines(keepends=True)[10:])
    ),
    "array": json.dumps(ROWS, ensure_ascii=False).encode(),
    "pretty array": json.dumps(ROWS, indent=1).encode(),
    "rows under a key": json.dumps({"version": 1, "examples": ROWS}).encode(),
    "pretty objects": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "utf-16": LINES.encode("utf-16"),
    "utf-16 big endian, no mark": TABLE.encode("utf-16-be"),
    "utf-32": LINES.encode("utf-32"),
    "utf-8 with a mark": codecs.BOM_UTF8 + LINES.encode(),
    "cp1252": LINES.encode("cp1252"),
    "cp1252 table in gzip": gzip.compress(TABLE.encode("cp1252")),
    "tabs": TABLE.encode(),
    "bars": TABLE.replace("\t", "|").encode(),
    "sep line": ("sep=;\r\n" + TABLE.replace("\t", ";").replace("\n", "\r\n")).encode(),
    "carriage returns": TABLE.replace("\n", "\r").encode(),
    "carriage returns in json": LINES.replace("\n", "\r").encode(),
    "excel": workbook(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_in_every_form_format_and_encoding(tmp_path: Path, form: str) -> None:
    manifest, rows = read(written(tmp_path, FORMS[form]), tmp_path / "out")
    expected = [
        [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
        for row in ROWS
    ]
    assert [list(row.messages) for row in rows] == expected
    plain = {
        "jsonl",
        "gzip",
        "array",
        "pretty array",
        "pretty objects",
        "utf-8 with a mark",
        "tabs",
        "bars",
        "sep line",
    }
    assert bool(manifest.warnings) == (form not in plain)


def test_json_by_id(tmp_path: Path) -> None:
    source = written(tmp_path, json.dumps({f"r{i}": row for i, row in enumerate(ROWS)}, indent=1))
    manifest, rows = read(source, tmp_path / "out")
    assert [row.value()["id"] for row in rows] == [f"r{i}" for i in range(30)]
    assert rows[3].messages[1]["content"] == ROWS[3]["output"]
    assert any("members of one object" in warning for warning in manifest.warnings)


def test_gbk_is_found_and_named(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"请解释第{i}个问题的含义,并给出例子。", "output": f"这是第{i}个答案,内容比较详细,请参考。"}
        for i in range(40)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    manifest, found = read(written(tmp_path, text.encode("gbk")), tmp_path / "out")
    assert [row.messages[1]["content"] for row in found] == [row["output"] for row in rows]
    assert any("gb" in warning for warning in manifest.warnings)


def test_broken_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    data = LINES.encode()
    place = data.index("Ä".encode())
    with pytest.raises(DatasetError) as caught:
        read(written(tmp_path, data[:place] + b"\xff" + data[place + 1 :]), tmp_path / "out")
    assert caught.value.code == "dataset-encoding"


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress, zstd], ids=["bzip2", "xz", "zstd"])
def test_a_cut_or_exploding_file_is_refused(tmp_path: Path, compress: Any) -> None:
    whole = compress(LINES.encode() * 50)
    with pytest.raises(DatasetError) as caught:
        read(written(tmp_path, whole[: len(whole) // 2]), tmp_path / "out")
    assert caught.value.code in {"dataset-truncated", "dataset-unreadable"}
    bomb = compress(b" " * (64 * 2**20))
    with pytest.raises(DatasetError) as caught:
        read(written(tmp_path, bomb), tmp_path / "out")
    assert caught.value.code == "dataset-too-large"


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read(written(tmp_path, zipped(a__jsonl=" " * (64 * 2**20))), tmp_path / "out")
    assert caught.value.code == "dataset-too-large"


def shards(tmp_path: Path, *tables: pa.Table) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"train-{number}.parquet")
    return folder


def test_shards_are_united_and_what_is_missing_is_null(tmp_path: Path) -> None:
    texts = {"instruction": ["q"], "output": ["a"]}
    tables = [
        pa.table(texts),
        pa.table(
            {"output": pa.array(["a"], pa.large_string()), "instruction": pa.array(["q"], pa.string_view()), "n": [1]}
        ),
        pa.table({**texts, "n": pa.nulls(1)}),
    ]
    manifest, rows = read(shards(tmp_path, *tables), tmp_path / "out")
    assert [row.value() for row in rows] == [
        {"instruction": "q", "output": "a", "n": None},
        {"instruction": "q", "output": "a", "n": 1},
        {"instruction": "q", "output": "a", "n": None},
    ]
    assert any("has no column 'n'" in warning for warning in manifest.warnings)


def test_shards_that_do_not_fit_name_the_column(tmp_path: Path) -> None:
    tables = [pa.table({"instruction": ["q"], "output": ["a"]}), pa.table({"instruction": ["q"], "output": [[1]]})]
    with pytest.raises(DatasetError, match="'output'") as caught:
        read(shards(tmp_path, *tables), tmp_path / "out")
    assert caught.value.code == "dataset-files-differ"


def test_a_split_can_be_asked_for(tmp_path: Path) -> None:
    manifest, _ = read(CASES / "41g-flat-train-and-test", tmp_path / "out", split="all")
    assert manifest.num_rows == 10
    manifest, _ = read(CASES / "41g-flat-train-and-test", tmp_path / "out", split="test")
    assert manifest.num_rows == 5


def test_a_saved_dataset_dict_reads_its_train_part(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_dict({"instruction": ["q"] * 3, "output": ["a"] * 3})
    datasets.DatasetDict({"train": part, "test": part.select([0])}).save_to_disk(str(tmp_path / "saved"))
    manifest, _ = read(tmp_path / "saved", tmp_path / "out")
    assert manifest.num_usable == 3
    assert any("only the split train" in warning for warning in manifest.warnings)


def test_pandas_index_columns_keep_their_values(tmp_path: Path) -> None:
    manifest, rows = read(written(tmp_path, ",instruction,output,\n0,q,a,\n1,q2,a2,\n"), tmp_path / "out")
    assert rows[1].value() == {"Unnamed: 0": "1", "instruction": "q2", "output": "a2"}
    assert manifest.warnings == ["columns not used: 'Unnamed: 0' (2 rows)"]
