"""Broken, hostile and odd files at full size through the whole service, one row each: what becomes of the data set.

Each goes through the child process that reads it, under its default limits of memory and time, on the database that is
stricter about what is written to it. One service takes all of them, and a good file at the end.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.service import InProcessService, jsonl, sums

ROW = b'{"instruction":"q","output":"a"}'
LINE = ROW + b"\n"
READY = None
pytestmark = pytest.mark.parametrize("shared_service", ["postgresql"], indirect=True)


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def whole() -> bytes:
    return parquet(instruction=[f"q {number}" for number in range(400)], output=["a"] * 400)


def damaged(position: int) -> bytes:
    content = bytearray(whole())
    content[position] ^= 0xFF
    return bytes(content)


def footer_of(size: int) -> bytes:
    return whole()[:-8] + size.to_bytes(4, "little") + b"PAR1"


def zstd_bomb() -> bytes:
    """One gigabyte of zeros in a few dozen kilobytes."""
    out = io.BytesIO()
    block = pa.record_batch({"instruction": ["q"], "output": ["a"], "x": [bytes(2**26)]})
    with pq.ParquetWriter(out, block.schema, compression="zstd", use_dictionary=False, write_statistics=False) as file:
        for _ in range(16):
            file.write_batch(block)
    return out.getvalue()


def dictionary_bomb() -> bytes:
    """64 MiB once in the file, two hundred times once it is read."""
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array(["x" * 2**26]))
    return parquet(instruction=["q"] * 200, output=same)


def null_rows() -> bytes:
    """A hundred million rows of nothing."""
    out = io.BytesIO()
    block = pa.record_batch({"text": pa.nulls(10**7, pa.string())})
    with pq.ParquetWriter(out, block.schema, compression="zstd") as file:
        for _ in range(10):
            file.write_batch(block)
    return out.getvalue()


def wide() -> bytes:
    return parquet(
        instruction=["q"], output=["a"], **{f"column_{number}": pa.array([number]) for number in range(20_000)}
    )


def forged_counts() -> bytes:
    """Every count of 400 in headers and footer says 8,191."""
    return whole().replace(b"\xa0\x06", b"\xfe\x7f")


def nested_parquet() -> bytes:
    value: Any = 1
    kind: pa.DataType = pa.int64()
    for _ in range(95):
        value, kind = [value], pa.list_(kind)
    return parquet(instruction=["q"], output=["a"], deep=pa.array([value], kind))


def gzip_bomb() -> bytes:
    """One gigabyte of spaces in a megabyte."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as file:
        for _ in range(64):
            file.write(b" " * 2**24)
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr("../../evil.jsonl", LINE)
        package.writestr("/abs.jsonl", LINE)
    return out.getvalue()


def records(*rows: Any) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


GOOD = {"instruction": "q", "output": "a"}

# What it is, the bytes, the code of the refusal (None: it becomes ready), codes of rejected rows.
FILES: list[tuple[str, Callable[[], bytes], str | None, dict[str, int]]] = [
    ("50 white space only", lambda: b"\n \n", "dataset-empty", {}),
    ("51 parquet cut in half", lambda: whole()[:900], "dataset-truncated", {}),
    ("51 parquet with a wrong first mark", lambda: b"PARX" + whole()[4:], "dataset-format-unknown", {}),
    ("51 parquet footer claims 8 bytes", lambda: footer_of(8), "dataset-unreadable", {}),
    ("51 parquet footer claims 2 GB", lambda: footer_of(2**31 - 1), "dataset-unreadable", {}),
    ("51 parquet with a flipped byte", lambda: damaged(30), "dataset-unreadable", {}),
    ("52 parquet, kilobytes to a gigabyte", zstd_bomb, "dataset-no-usable-rows", {}),
    ("53 parquet, one text two hundred times", dictionary_bomb, "dataset-unreadable", {}),
    ("54 parquet, a hundred million null rows", null_rows, "dataset-too-large", {}),
    ("55 parquet, 20,000 columns", wide, "dataset-too-large", {}),
    ("56 parquet, nested 95 deep", nested_parquet, "dataset-unreadable", {}),
    ("57 parquet with forged counts", forged_counts, "dataset-unreadable", {}),
    (
        "58 JSON nested 20,000 deep",
        lambda: LINE + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"\n",
        READY,
        {"too-deep": 1},
    ),
    ("59 gzip, a megabyte to a gigabyte", gzip_bomb, "dataset-too-large", {}),
    ("60 zip with ../../evil and /abs", archive, READY, {}),
    ("61 U+2028 and U+0085 inside a text", lambda: records({**GOOD, "output": "a\u2028b\u0085c"}, GOOD), READY, {}),
    ("62 byte order mark", lambda: b"\xef\xbb\xbf" + LINE, READY, {}),
    ("63 Latin-1", lambda: '{"instruction":"café","output":"a"}\n'.encode("latin-1"), READY, {}),
    ("64 NaN in a row", lambda: b'{"instruction":"q","output":"a","x":NaN}\n', "dataset-invalid-json", {}),
    (
        "65 mixed types in a column",
        lambda: records(GOOD, {**GOOD, "output": 7}, {**GOOD, "output": {"a": 1}}),
        READY,
        {"wrong-type": 1},
    ),
    (
        "66 a line of 40 MB",
        lambda: LINE + b'{"instruction":"' + b"q" * 4 * 10**7 + b'","output":"a"}\n',
        READY,
        {"too-long": 1},
    ),
    ("67 two objects on a line", lambda: LINE + ROW + ROW + b"\n", "dataset-invalid-json", {}),
    ("67 blank lines", lambda: LINE + b"\n\n" + LINE, READY, {}),
    ("67 an array", lambda: b"[" + ROW + b"," + ROW + b"]", READY, {}),
    (
        "68 no text, empty text, white space",
        lambda: records(GOOD, {"instruction": "q"}, {**GOOD, "output": ""}, {**GOOD, "output": " \n"}),
        READY,
        {"missing-column": 1, "empty-response": 2},
    ),
    ("71 all rows alike", lambda: LINE * 50, READY, {}),
    ("72 one row", lambda: LINE, READY, {}),
    (
        "74 special tokens in the text",
        lambda: records({"instruction": "<|im_end|><|im_start|>system", "output": "</s><|endoftext|>"}),
        READY,
        {},
    ),
    ("75 pickle", lambda: pickle.dumps([GOOD]), "dataset-format-unknown", {}),
    ("75 HDF5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "dataset-format-unknown", {}),
    ("75 Python", lambda: b"import os\nos.system('true')\n", "dataset-format-unknown", {}),
    ("76 parquet named .jsonl", whole, READY, {}),
]


HUGE = ("52", "53", "54", "59")
"""Rows that take seconds; tests/library/test_intake_process.py reads smaller bombs."""
CASES = [
    pytest.param(*row[1:], id=row[0], marks=[pytest.mark.soak] if row[0].startswith(HUGE) else []) for row in FILES
]


@pytest.mark.parametrize(("make", "code", "rejected"), CASES)
def test_a_bad_file_ends_as_the_table_says_and_the_service_lives(
    shared_service: InProcessService, make: Callable[[], bytes], code: str | None, rejected: dict[str, int]
) -> None:
    dataset = shared_service.push(make(), name="pool.jsonl")
    problem = dataset["error"] or {"code": None}
    assert (dataset["status"], problem["code"]) == ("ready" if code is None else "invalid", code), problem
    if code is None:
        assert dataset["rejected"] == rejected
    else:
        assert problem["detail"].isprintable()
        assert len(problem["detail"]) < 500


def test_random_damage_never_costs_the_service(shared_service: InProcessService, seed: int) -> None:
    generator = random.Random(seed)
    good = [whole(), gzip.compress(LINE * 300, mtime=0), LINE * 300, b"instruction,output\n" + b"q,a\n" * 50]
    for _ in range(12):
        content = bytearray(generator.choice(good))
        for _ in range(generator.randrange(1, 20)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        dataset = shared_service.push(bytes(content[: generator.randrange(1, len(content) + 1)]))
        assert dataset["status"] in {"ready", "invalid"}
        assert dataset["status"] == "ready" or dataset["error"]["code"].startswith("dataset-")
    assert shared_service.push(jsonl(sums(2)))["status"] == "ready", "the service lives"
