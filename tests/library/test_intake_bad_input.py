"""Files that are broken, hostile or something else: each is refused with its code and, where there is one, its line."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from spice_select.errors import DatasetError
from spice_select.ingest import IntakeLimits, IntakeOptions
from spice_select.ingest.parse import parse

ROW = b'{"instruction":"q","output":"a"}'
LINE = ROW + b"\n"
RANDOM = random.Random(7)


def archive(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as package:
            package.writestr("../../evil.jsonl", LINE)
    else:
        with tarfile.open(fileobj=out, mode="w") as tape:
            tape.addfile(tarfile.TarInfo("/abs"))
    return out.getvalue()


def damaged(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 0xFF
    return bytes(changed)


ZIPPED = gzip.compress(LINE * 500 + RANDOM.randbytes(64).hex().encode(), mtime=0)

# name: (content, code, what the detail must say, pointer)
REFUSED: dict[str, tuple[bytes, str, str, str | None]] = {
    "nothing": (b"", "dataset-empty", "empty", None),
    "white space": (b" \n\t\r\n", "dataset-empty", "white space", None),
    "byte order mark only": (b"\xef\xbb\xbf", "dataset-empty", "white space", None),
    "gzip of nothing": (gzip.compress(b"", mtime=0), "dataset-empty", "white space", None),
    "empty array": (b" [ \n ] ", "dataset-empty", "no rows", None),
    "CSV header only": (b"instruction,output\n", "dataset-empty", "no rows", None),
    "gzip cut in the data": (ZIPPED[: len(ZIPPED) // 2], "dataset-truncated", "cut off", None),
    "gzip cut in the trailer": (ZIPPED[:-3], "dataset-truncated", "cut off", None),
    "gzip cut in the header": (ZIPPED[:6], "dataset-truncated", "cut off", None),
    "second gzip member cut": (ZIPPED + ZIPPED[:-9], "dataset-truncated", "cut off", None),
    "gzip with a flipped byte": (damaged(ZIPPED, len(ZIPPED) - 6), "dataset-unreadable", "gzip", None),
    "gzip with a flipped data byte": (damaged(ZIPPED, len(ZIPPED) // 2), "dataset-unreadable", "gzip", None),
    "gzip and then rubbish": (ZIPPED + b"rubbish", "dataset-unreadable", "gzip", None),
    "gzip in gzip": (gzip.compress(ZIPPED, mtime=0), "dataset-format-unknown", "gzip inside gzip", None),
    "broken line": (LINE * 2 + b'{"instruction": \n' + LINE, "dataset-invalid-json", "line 3: ", "#/rows/2"),
    "broken line after blanks": (LINE + b"\n\n" + LINE + b"{]\n", "dataset-invalid-json", "line 5: ", "#/rows/2"),
    "broken first line": (b"not json\n" + LINE * 3, "dataset-invalid-json", "line 1: ", "#/rows/0"),
    "broken line in gzip": (gzip.compress(LINE * 9 + b"{", mtime=0), "dataset-invalid-json", "line 10: ", "#/rows/9"),
    "cut last line": (LINE * 3 + ROW[:-4], "dataset-invalid-json", "line 4: ", "#/rows/3"),
    "python's dict": (b"{'instruction': 'q', 'output': 'a'}\n", "dataset-invalid-json", "line 1: ", "#/rows/0"),
    "two records on a line": (LINE + ROW + ROW + b"\n", "dataset-invalid-json", "line 2: ", "#/rows/1"),
    "comma after a record": (LINE + ROW + b",\n", "dataset-invalid-json", "line 2: ", "#/rows/1"),
    "NaN": (
        LINE + b'{"instruction":"q","output":NaN}\n',
        "dataset-invalid-json",
        "line 2: invalid JSON: NaN",
        "#/rows/1",
    ),
    "infinity": (b'{"instruction":"q","output":"a","x":-Infinity}', "dataset-invalid-json", "-Infinity", "#/rows/0"),
    "raw control character": (b'{"instruction":"q\x01","output":"a"}', "dataset-invalid-json", "line 1: ", "#/rows/0"),
    "object over several lines": (b'{\n "data": []\n}\n', "dataset-form-unknown", "'data'", "#/columns"),
    "array not closed": (b"[" + ROW + b",\n" + ROW, "dataset-invalid-json", "line 2: the array is not closed", None),
    "array cut in a text": (
        b"[" + ROW + b",\n\n" + ROW[:9],
        "dataset-invalid-json",
        "line 3: the array is not closed",
        None,
    ),
    "array cut after a backslash": (b'["a\\', "dataset-invalid-json", "line 1: the array is not closed", None),
    "array closed by the wrong bracket": (b"[" + ROW + b"}", "dataset-invalid-json", "line 1: ", None),
    "array with a comma too many": (b"[" + ROW + b",\n]", "dataset-invalid-json", "line 2: expected a value", None),
    "array with a gap": (b"[" + ROW + b"\n,\n,\n" + ROW + b"]", "dataset-invalid-json", "expected a value", None),
    "array without a comma": (b"[\n" + ROW + b"\n" + ROW + b"]", "dataset-invalid-json", "line 3: ", "#/rows/0"),
    "array and then more": (b"[\n" + ROW + b"]\n\n" + ROW, "dataset-invalid-json", "line 4: something follows", None),
    "broken element": (b"[\n" + ROW + b',\n{"a":\n\n}]', "dataset-invalid-json", "line 5: ", "#/rows/1"),
    "only opening brackets": (b"[" * 100_000, "dataset-invalid-json", "not closed", None),
    "UTF-8 cut inside a character": (b'{"instruction":"\xc3', "dataset-encoding", "line 1: ", "#/rows/0"),
    "surrogate as bytes": (b'{"instruction":"\xed\xa0\x80","output":"a"}', "dataset-encoding", "line 1: ", "#/rows/0"),
    "random bytes": (b"\x07" + RANDOM.randbytes(5000), "dataset-format-unknown", "binary", None),
    "zip": (archive("zip"), "dataset-empty", "zip", None),
    "tar": (archive("tar"), "dataset-format-unknown", "tar", None),
    "pickle": (pickle.dumps([{"instruction": "q", "output": "a"}]), "dataset-format-unknown", "pickle", None),
    "PDF": (b"%PDF-1.7 ...", "dataset-format-unknown", "PDF", None),
    "prose": (b"Dear reader, this is text.\nIt goes on.\n", "dataset-format-unknown", "known format", None),
    "HTML": (b"<html><body>404</body></html>", "dataset-format-unknown", "known format", None),
    "CSV with an open quote": (
        b'instruction,output\nq,a\nq,"a\n' + b"q,a\n" * 3,
        "dataset-invalid-csv",
        "lines 3 to ",
        None,
    ),
    "CSV with a stray quote": (b'instruction,output\nq,"a" b\n', "dataset-invalid-csv", "line 2: ", None),
    "CSV with a column twice": (b"instruction,output,output\nq,a,b\n", "dataset-duplicate-column", "'output'", None),
    "CSV with a huge line": (b"instruction,output\nq," + b"x" * 70_000, "dataset-too-large", "line 2: ", None),
    "no usable row": (
        b'{"instruction":"q","output":""}\n' * 3,
        "dataset-no-usable-rows",
        "empty-response 3",
        "#/rows/0",
    ),
    "no object": (b'1\n"x"\n[2]\nnull\n', "dataset-no-usable-rows", "not-an-object 4", "#/rows/0"),
    "array of numbers": (b"[1, 2.5, true]", "dataset-no-usable-rows", "not-an-object 3", "#/rows/0"),
    "one endless object": (b'{"a":' * 5_000, "dataset-no-usable-rows", "too-deep 1", "#/rows/0"),
    "unknown columns": (
        b'{"foo":"q","b\\u001b[1mar":"a"}\n' * 3,
        "dataset-form-unknown",
        "'foo', 'b\\x1b[1mar'",
        "#/columns",
    ),
    "CSV of unknown columns": (b"x,y\n1,2\n3,4\n", "dataset-form-unknown", "'x', 'y'", "#/columns"),
}


def refusal(tmp_path: Path, content: bytes, options: IntakeOptions | None = None, **limits: Any) -> DatasetError:
    source, out = tmp_path / "pool.parquet", tmp_path / "out"  # the name says nothing
    source.write_bytes(content)
    out.mkdir()
    with pytest.raises(DatasetError) as caught:
        parse(source, out, options or IntakeOptions(), IntakeLimits(**limits))
    assert not (out / "manifest.json").exists()
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    content, code, says, pointer = REFUSED[name]
    error = refusal(tmp_path, content, max_row_bytes=2**16)
    assert error.code == code
    assert says in error.detail
    assert (error.errors[0]["pointer"] if error.errors else None) == pointer
    assert error.detail.isprintable()
    json.dumps(error.detail)


@pytest.mark.parametrize(
    ("options", "code", "pointer"),
    [
        ({"columns": {"prompt": "nope", "response": "output"}}, "dataset-column-missing", "#/columns/prompt"),
        ({"columns": {"response": "nope"}}, "dataset-column-missing", "#/columns/response"),
        ({"columns": {"system": "nope"}}, "dataset-column-missing", "#/columns/system"),
        ({"columns": {"messages": "instruction"}}, "dataset-form-unknown", "#/columns"),
        ({"format": "question_answer"}, "dataset-column-missing", None),
        ({"format": "messages", "columns": {"messages": "nope"}}, "dataset-column-missing", "#/columns/messages"),
    ],
)
def test_options_that_do_not_fit_the_data(tmp_path: Path, options: Any, code: str, pointer: str | None) -> None:
    error = refusal(tmp_path, LINE * 3, IntakeOptions(**options))
    assert error.code == code
    assert (error.errors[0]["pointer"] if error.errors else None) == pointer


def test_an_optional_column_may_turn_up_late(tmp_path: Path) -> None:
    late = b'{"instruction":"q","output":"a","role":"be kind"}\n'
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(LINE * 1500 + late)
    out.mkdir()
    manifest = parse(source, out, IntakeOptions(columns={"system": "role"}), IntakeLimits())
    assert manifest.columns["system"] == "role"
    assert manifest.num_usable == 1501


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        (LINE * 10, {"max_bytes": 100}),
        (LINE * 10, {"max_rows": 9}),
        (b"[" + b",".join([ROW] * 10) + b"]", {"max_rows": 9}),
        (b"instruction,output\n" + b"q,a\n" * 10, {"max_rows": 9}),
        (gzip.compress(LINE * 100, mtime=0), {"max_decoded_bytes": 1000}),
        (gzip.compress(LINE * 10_000, mtime=0), {"ratio_free_bytes": 2**16}),
        (gzip.compress(bytes(2**24), mtime=0), {}),
        (b"instruction,output,c\nq,a,c\n", {"max_columns": 2}),
    ],
)
def test_too_large(tmp_path: Path, content: bytes, limits: dict[str, int]) -> None:
    assert refusal(tmp_path, content, **limits).code == "dataset-too-large"


def test_a_line_longer_than_memory_would_like_is_dropped_not_held(tmp_path: Path) -> None:
    # 40 MiB on one line under a cap of 64 KiB, then a row whose line number must still be right.
    content = LINE + b'{"instruction":"' + b"x" * (40 * 2**20) + b'"}\n' + LINE + b"{\n"
    error = refusal(tmp_path, content, max_row_bytes=2**16)
    assert error.detail.startswith("line 4: ")


def test_long_elements_of_an_array_are_dropped_and_lines_still_counted(tmp_path: Path) -> None:
    long = b'{"instruction":"' + b'\\"\\\\\\n' * 2**20 + b'",\n\n"output":"a"}'
    error = refusal(tmp_path, b"[" + ROW + b",\n" + long + b",\n{]\n]", max_row_bytes=2**16)
    assert error.detail.startswith("line 5: ")
    assert error.errors[0]["pointer"] == "#/rows/2"


def test_any_prefix_of_a_good_file_is_refused_or_read_without_surprise(tmp_path: Path) -> None:
    records = [{"instruction": f'q "{i}" \\ é', "input": "[{,", "output": "a\n}]"} for i in range(4)]
    whole = json.dumps(records, ensure_ascii=False).encode()
    (tmp_path / "out").mkdir()
    source = tmp_path / "source"
    for end in range(1, len(whole)):
        source.write_bytes(whole[:end])
        with pytest.raises(DatasetError) as caught:
            parse(source, tmp_path / "out", IntakeOptions(), IntakeLimits())
        assert caught.value.code in {"dataset-invalid-json", "dataset-encoding"}


def test_pieces_are_the_same_wherever_the_reads_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spice_select.ingest import source as module
    from spice_select.ingest.json_text import iter_array, iter_json_lines

    records = [{"a": 'x"\\', "b": ["]", {"c": "é,[{"}], "d": "\\\\"}, [], 3, '\\"]', {"e": None}]
    array, lines = tmp_path / "array", tmp_path / "lines"
    array.write_bytes(b"\n" + json.dumps(records, indent=1, ensure_ascii=False).encode() + b"\n")
    lines.write_bytes("\n\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode())
    for size in range(1, 40):
        monkeypatch.setattr(module, "HEAD", size)
        for path, cut in ((array, iter_array), (lines, iter_json_lines)):
            source = module.ByteSource(path, IntakeLimits())
            read = source.read
            monkeypatch.setattr(source, "read", lambda read=read, size=size: read(size))
            pieces = list(cut(source, 10_000))
            source.close()
            assert [json.loads(piece.raw or b"") for piece in pieces] == records
            for piece, record in zip(pieces, records, strict=True):
                found = path.read_bytes().split(b"\n")[piece.line - 1].strip()
                assert found[:1] == json.dumps(record)[:1].encode()


def test_every_code_of_a_data_set_is_explained(tmp_path: Path) -> None:
    from spice_select import ingest

    assert ingest.__doc__ is not None
    for _, code, _, _ in REFUSED.values():
        assert code in ingest.__doc__
