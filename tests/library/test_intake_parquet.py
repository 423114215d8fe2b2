"""Parquet: values that JSON lacks, the source's own types kept, damage and bombs."""

from __future__ import annotations

import io
import math
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spice_select.errors import DatasetError
from spice_select.ingest import SHARD_ROWS, DatasetManifest, IntakeLimits, IntakeOptions, iter_rows, read_source_rows
from spice_select.ingest.arrow_values import ArrowColumn
from spice_select.ingest.parse import parse
from tests.fixtures.examples import examples

MOMENT = datetime(2024, 2, 29, 23, 59, 58, 120_000)


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def ingest(folder: Path, content: bytes, **limits: Any) -> tuple[DatasetManifest, Path]:
    source, out = folder / "source", folder / "out"
    source.write_bytes(content)
    out.mkdir(exist_ok=True)
    return parse(source, out, IntakeOptions(), IntakeLimits(**limits)), out


def pool(count: int, **columns: pa.Array) -> pa.Table:
    asked = pa.array([f"q {index}" for index in range(count)])
    return pa.table({"instruction": asked, "output": pa.array(["a"] * count), **columns})


VALUES: list[tuple[pa.Array, Any]] = [
    (pa.array([MOMENT], pa.timestamp("ms")), "2024-02-29T23:59:58.120"),
    (pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("s")), "2024-02-29T23:59:58"),
    (pa.array([1_709_251_198_123_456_789], pa.timestamp("ns")), "2024-02-29T23:59:58.123456789"),
    (pa.array([MOMENT.replace(tzinfo=UTC)], pa.timestamp("ms", "Europe/Berlin")), "2024-02-29T23:59:58.120Z"),
    (pa.array([-1], pa.timestamp("us")), "1969-12-31T23:59:59.999999"),
    (pa.array([-(2**62)], pa.timestamp("ms")), f"{-(2**62)} ms since 1970"),
    (pa.array([date(999, 1, 2)]), "0999-01-02"),
    (pa.array([2**30], pa.date32()), f"{2**30} days since 1970"),
    (pa.array([MOMENT.date()], pa.date64()), "2024-02-29"),
    (pa.array([time(1, 2, 3, 4)]), "01:02:03.000004"),
    (pa.array([5], pa.time32("s")), "00:00:05"),
    (pa.array([timedelta(milliseconds=-1500)], pa.duration("ms")), "-PT1.500S"),
    (pa.array([Decimal("-12345678901234567890.10")]), "-12345678901234567890.10"),
    (pa.array([b"\x00\xff"]), "AP8="),
    (pa.array([b"\x00\xff"], pa.binary(2)), "AP8="),
    (pa.array([math.nan]), None),
    (pa.array([-math.inf]), None),
    (pa.array([0.1]), 0.1),
    (pa.array([0.5], pa.float16()), 0.5),
    (pa.array([2**63 - 1]), 2**63 - 1),
    (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    (pa.array([True]), True),
    (pa.array([None], pa.null()), None),
    (pa.array(["x"]).dictionary_encode(), "x"),
    (pa.array(["x"], pa.large_string()), "x"),
    (pa.array([[1, None]]), [1, None]),
    (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), [1, 2]),
    (pa.array([[MOMENT, None]], pa.large_list(pa.timestamp("s"))), ["2024-02-29T23:59:58", None]),
    (
        pa.array([{"t": MOMENT, "n": [math.inf], "s": None}]),
        {"t": "2024-02-29T23:59:58.120000", "n": [None], "s": None},
    ),
    (pa.array([[("k", b"\x01")]], pa.map_(pa.string(), pa.binary())), [["k", "AQ=="]]),
]


@pytest.mark.parametrize(("column", "expected"), VALUES, ids=[str(column.type) for column, _ in VALUES])
def test_values_that_json_lacks_become_text_and_keep_their_own_types(
    tmp_path: Path, column: pa.Array, expected: Any
) -> None:
    table = pool(1, x=column)
    manifest, out = ingest(tmp_path, as_parquet(table))
    rows = list(iter_rows(out / manifest.shards[0].name))
    assert rows[0].value()["x"] == expected
    kept = read_source_rows(out, [0])
    source = pq.read_table(tmp_path / "source")
    assert kept is not None
    assert kept.schema.equals(source.schema)
    assert kept.equals(source) or "nan" in str(kept.column("x"))


def test_changed_values_are_said_once_a_column(tmp_path: Path) -> None:
    table = pool(600, when=pa.array([MOMENT] * 600), score=pa.array([math.nan, 1.0] * 300), fine=pa.array([1.0] * 600))
    manifest, _ = ingest(tmp_path, as_parquet(table))
    assert manifest.warnings == [
        "in selected.jsonl, times are ISO 8601 text (column 'when')",
        "in selected.jsonl, NaN and infinity are null (column 'score')",
        "columns not used: 'when' (600 rows), 'fine' (600 rows), 'score' (300 rows)",
    ]


def test_source_rows_stay_beside_the_usable_ones(tmp_path: Path) -> None:
    count = SHARD_ROWS + 500
    answers = pa.array(["" if index % 5 == 2 else "a" for index in range(count)])
    category = pa.array([str(index % 3) for index in range(count)]).dictionary_encode()
    table = pool(count, id=pa.array(range(count), pa.int16()), category=category).set_column(1, "output", answers)
    table = table.replace_schema_metadata({"huggingface": '{"info": 1}'})
    manifest, out = ingest(tmp_path, as_parquet(table, row_group_size=300))
    assert [shard.rows for shard in manifest.source_shards] == [shard.rows for shard in manifest.shards]
    usable = [index for index in range(count) if index % 5 != 2]
    positions = [len(usable) - 1, 0, SHARD_ROWS, SHARD_ROWS - 1, 0]
    kept = read_source_rows(out, positions)
    assert kept is not None
    assert kept.column("id").to_pylist() == [usable[position] for position in positions]
    assert kept.schema.equals(pq.read_schema(tmp_path / "source"), check_metadata=True)
    nothing = read_source_rows(out, [])
    assert nothing is not None
    assert (nothing.num_rows, nothing.column_names) == (0, table.column_names)
    with pytest.raises(IndexError):
        read_source_rows(out, [len(usable)])


def test_text_that_is_no_utf8_rejects_its_row_alone(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"\xff", b"good"]).buffers())
    manifest, out = ingest(tmp_path, as_parquet(pool(3, note=texts)))
    assert manifest.rejected == {"invalid-unicode": 1}
    assert [row.source_row for row in iter_rows(out / manifest.shards[0].name)] == [0, 2]


def nested(depth: int) -> pa.Array:
    value, kind = 1, pa.int64()
    for _ in range(depth):
        value, kind = [value], pa.list_(kind)  # type: ignore[assignment]
    return pa.array([value], kind)


WHOLE = as_parquet(pool(400))
TWICE = pa.table([pa.array(["q"]), pa.array(["a"]), pa.array(["b"])], names=["instruction", "output", "output"])
BROKEN: dict[str, tuple[bytes, str]] = {
    "no rows": (as_parquet(pool(0)), "dataset-empty"),
    "only the first mark": (b"PAR1", "dataset-truncated"),
    "two marks and nothing": (b"PAR1PAR1", "dataset-truncated"),
    "cut in half": (WHOLE[: len(WHOLE) // 2], "dataset-truncated"),
    "last byte missing": (WHOLE[:-1], "dataset-truncated"),
    "footer of 8 bytes": (WHOLE[:-8] + (8).to_bytes(4, "little") + b"PAR1", "dataset-unreadable"),
    "footer of 2 GiB": (WHOLE[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1", "dataset-unreadable"),
    "footer of 4 GiB": (WHOLE[:-8] + (2**32 - 1).to_bytes(4, "little") + b"PAR1", "dataset-unreadable"),
    "middle cut out": (WHOLE[:60] + WHOLE[400:], "dataset-unreadable"),
    "rows in the footer": (as_parquet(pool(2001)), "dataset-too-large"),
    "null rows": (as_parquet(pa.table({"text": pa.nulls(10**6, pa.string())})), "dataset-too-large"),
    "columns": (as_parquet(pool(1, **{f"c{index}": pa.array([1]) for index in range(1000)})), "dataset-too-large"),
    "fields of a column": (
        as_parquet(pool(1, wide=pa.array([{f"c{index}": 1 for index in range(1000)}]))),
        "dataset-too-large",
    ),
    "nesting": (as_parquet(pool(1, deep=nested(40))), "dataset-too-large"),
    "nesting that Arrow refuses": (as_parquet(pool(1, deep=nested(80))), "dataset-unreadable"),
    "column twice": (as_parquet(TWICE), "dataset-duplicate-column"),
    "decoded bytes": (as_parquet(pool(100, same=pa.array(["x" * 10**5] * 100))), "dataset-too-large"),
    "encrypted": (b"PARE" + WHOLE[4:], "dataset-format-unknown"),
    "Arrow file": (b"ARROW1\x00\x00" + bytes(64), "dataset-unreadable"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_refused(tmp_path: Path, name: str) -> None:
    content, code = BROKEN[name]
    with pytest.raises(DatasetError) as caught:
        ingest(tmp_path, content, max_rows=2000, max_decoded_bytes=2**22, max_depth=32)
    assert caught.value.code == code
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 300


def test_checksums_of_pages_are_checked_where_there_are_any(tmp_path: Path) -> None:
    content = bytearray(as_parquet(pool(400), write_page_checksum=True, compression="none", use_dictionary=False))
    content[content.index(b"q 123")] ^= 1
    with pytest.raises(DatasetError) as caught:
        ingest(tmp_path, bytes(content))
    assert caught.value.code == "dataset-unreadable"


def test_no_flipped_byte_is_a_surprise(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(80):
        content = bytearray(WHOLE)
        content[generator.randrange(4, len(content) - 8)] ^= generator.randrange(1, 256)
        try:
            manifest, _ = ingest(tmp_path, bytes(content))
        except (DatasetError, MemoryError):  # the child process turns the second into the first
            continue
        assert manifest.num_usable + manifest.num_rejected == manifest.num_rows


@settings(max_examples=examples(200))
@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["s", "ms", "us", "ns"]))
def test_times_are_written_exactly(value: int, unit: str) -> None:
    (written,) = ArrowColumn(pa.field("t", pa.timestamp(unit))).values(pa.array([value], pa.timestamp(unit)))
    if written.endswith("since 1970"):
        assert written.split()[:2] == [str(value), unit]
        return
    whole, _, fraction = written.partition(".")
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    seconds = (datetime.fromisoformat(whole) - datetime(1970, 1, 1)) // timedelta(seconds=1)
    assert seconds * per_second + int(fraction or 0) == value


@pytest.mark.parametrize("store_schema", [True, False])
def test_a_column_name_that_is_not_utf8_is_refused_for_what_it_is(tmp_path: Path, store_schema: bool) -> None:
    content = as_parquet(pool(3, wxyz=pa.array([1, 2, 3])), store_schema=store_schema).replace(b"wxyz", b"wx\xffz")
    with pytest.raises(DatasetError, match="not UTF-8") as refused:
        ingest(tmp_path, content)
    assert refused.value.code == "dataset-encoding"
