"""Parquet, read a few hundred rows at a time; what the footer claims is checked before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from spice_select.errors import DatasetError, RowError
from spice_select.ingest.arrow_values import ArrowColumn, depth_of, repeated_field
from spice_select.ingest.manifest import IntakeLimits
from spice_select.ingest.rows import ArrowRow, RawRow, RowStream
from spice_select.ingest.source import ByteSource

_MAGIC: Final = b"PAR1"
_BATCH_ROWS: Final = 256
_BUFFER_BYTES: Final = 2**20
_FOOTER_STRING_BYTES: Final = 64 * 2**20
_FOOTER_ITEMS: Final = 2**20


def parquet_rows(source: ByteSource, limits: IntakeLimits) -> RowStream:
    """Rows of a Parquet source.

    Args:
        source: The file; when it is gzip it is unpacked into a temporary file first.
        limits: Caps on rows, columns, nesting and decoded bytes.

    Raises:
        DatasetError: Cut off, broken, or larger than allowed.
        MemoryError: The footer asks for more than there is.
    """
    raw = source.plain_file()
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - len(_MAGIC)))
    if size < 3 * len(_MAGIC) or raw.read() != _MAGIC:
        raise DatasetError("the Parquet file is cut off: it does not end in PAR1", code="dataset-truncated")
    raw.seek(0)
    try:
        file = pq.ParquetFile(
            raw,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
            thrift_string_size_limit=_FOOTER_STRING_BYTES,
            thrift_container_size_limit=_FOOTER_ITEMS,
        )
        rows, columns, schema = file.metadata.num_rows, file.metadata.num_columns, file.schema_arrow
    except MemoryError:
        raise
    except UnicodeDecodeError:
        raise DatasetError(
            "a column of the Parquet file has a name that is not UTF-8", code="dataset-encoding"
        ) from None
    except (pa.ArrowException, OSError) as error:
        _refuse(error)
    _check_claims(rows, columns, schema, limits)
    warnings: list[str] = []
    progress = _Progress(source.total, rows)
    ways = [ArrowColumn(field) for field in schema]
    return RowStream(
        _rows(file, ways, limits, progress, warnings),
        progress.bytes_done,
        list(schema.names),
        schema,
        warnings,
        lambda: progress.decoded,
    )


def _check_claims(rows: int, columns: int, schema: pa.Schema, limits: IntakeLimits) -> None:
    too_large: str | None = None
    if rows > limits.max_rows:
        too_large = f"the file has {rows} rows, the limit is {limits.max_rows}"
    elif columns > limits.max_columns:
        too_large = f"the file has {columns} columns, the limit is {limits.max_columns}"
    elif max((depth_of(field.type) for field in schema), default=0) > limits.max_depth:
        too_large = f"a column is nested deeper than {limits.max_depth} levels"
    if too_large is not None:
        raise DatasetError(too_large, code="dataset-too-large")
    twice = repeated_field(list(schema))
    if twice is not None:
        raise DatasetError(f"the column {twice[:60]!a} is there twice", code="dataset-duplicate-column")


class _Progress:
    """Bytes are not read in order, so rows stand for them."""

    def __init__(self, size: int, rows: int) -> None:
        self._size, self._rows = size, rows
        self.done = self.decoded = 0

    def bytes_done(self) -> int:
        return self._size if not self._rows else min(self._size, self._size * self.done // self._rows)


def _rows(
    file: pq.ParquetFile, ways: list[ArrowColumn], limits: IntakeLimits, progress: _Progress, warnings: list[str]
) -> Iterator[RawRow]:
    names = [way.name for way in ways]
    try:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            progress.decoded += batch.nbytes
            if progress.decoded > limits.max_decoded_bytes:
                detail = f"the columns hold more than {limits.max_decoded_bytes} bytes"
                raise DatasetError(detail, code="dataset-too-large")
            batch.validate(full=False)
            for offset, values in enumerate(_values(batch, ways)):
                index = progress.done
                progress.done += 1
                if isinstance(values, RowError):
                    yield RawRow(index, None, values)
                else:
                    yield RawRow(index, dict(zip(names, values, strict=True)), None, ArrowRow(batch, offset))
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        _refuse(error)
    warnings += [f"in selected.jsonl, {way.changes} (column {way.name[:60]!a})" for way in ways if way.changes]
    warnings += [f"in selected.jsonl, NaN and infinity are null (column {way.name[:60]!a})" for way in ways if way.lost]


def _values(batch: pa.RecordBatch, ways: list[ArrowColumn]) -> list[tuple[Any, ...] | RowError]:
    try:
        return _together(batch, ways)
    except UnicodeDecodeError:
        return [_one(batch.slice(offset, 1), ways) for offset in range(batch.num_rows)]


def _together(batch: pa.RecordBatch, ways: list[ArrowColumn]) -> list[Any]:
    columns = [way.values(batch.column(position)) for position, way in enumerate(ways)]
    return list(zip(*columns, strict=True))


def _one(row: pa.RecordBatch, ways: list[ArrowColumn]) -> tuple[Any, ...] | RowError:
    try:
        values: tuple[Any, ...] = _together(row, ways)[0]
    except UnicodeDecodeError:
        return RowError("text that is not valid UTF-8", code="invalid-unicode")
    return values


def _refuse(error: BaseException) -> NoReturn:
    # Arrow's first line says what it stumbled over; anything after it, and anything odd in it, stays here.
    said = str(error).partition("\n")[0][:160]
    detail = "the Parquet file is broken: " + "".join(sign if sign.isprintable() else "?" for sign in said)
    raise DatasetError(detail, code="dataset-unreadable") from None
