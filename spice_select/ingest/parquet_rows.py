"""Parquet and Arrow files, read a few hundred rows at a time; what they claim is checked before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from spice_select.errors import DatasetError, RowError
from spice_select.ingest.arrow_schema import aligned, plain_schema
from spice_select.ingest.arrow_values import ArrowColumn, depth_of, repeated_field
from spice_select.ingest.manifest import IntakeLimits
from spice_select.ingest.rows import ArrowRow, RawRow, RowStream
from spice_select.ingest.source import ByteSource

_MAGIC: Final = b"PAR1"
_BATCH_ROWS: Final = 256
_BUFFER_BYTES: Final = 2**20
_FOOTER_STRING_BYTES: Final = 64 * 2**20
_FOOTER_ITEMS: Final = 2**20


def parquet_rows(source: ByteSource, limits: IntakeLimits, schema: pa.Schema | None = None) -> RowStream:
    """Rows of a Parquet source.

    Args:
        source: The file; when it is compressed it is unpacked into a temporary file first.
        limits: Caps on rows, columns, nesting and decoded bytes.
        schema: The schema of all files of the source; None for that of this file.

    Raises:
        DatasetError: Cut off, broken, or larger than allowed.
        MemoryError: The footer asks for more than there is.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _parquet()
    file = _parquet(source.plain_file())
    rows, columns = file.metadata.num_rows, file.metadata.num_columns
    batches = file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)
    return _stream(batches, file.schema_arrow, rows, columns, source, limits, schema)


def arrow_rows(source: ByteSource, limits: IntakeLimits, schema: pa.Schema | None = None) -> RowStream:
    """Rows of an Arrow file or stream, as ``save_to_disk`` of ``datasets`` writes them.

    Args:
        source: The file.
        limits: As for ``parquet_rows``.
        schema: As for ``parquet_rows``.

    Raises:
        DatasetError: Cut off, broken, or larger than allowed.
        MemoryError: It asks for more than there is.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    raw = source.plain_file()
    try:
        reader = _arrow_reader(raw)
        batches = _sliced(reader)
        return _stream(batches, reader.schema, 0, len(reader.schema), source, limits, schema)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        _refuse(error)


def schema_of(path: Path, limits: IntakeLimits) -> pa.Schema:
    """Schema of a Parquet or Arrow file, with plain types.

    Args:
        path: The file.
        limits: As for ``parquet_rows``.

    Raises:
        DatasetError: ``dataset-files-differ`` for a file of another kind; broken, or larger than allowed.
    """
    with path.open("rb") as raw:
        start = raw.read(6)
        if start.startswith(_MAGIC):
            file = _parquet(raw)
            _check_claims(file.metadata.num_rows, file.metadata.num_columns, file.schema_arrow, limits)
            return plain_schema(file.schema_arrow)
        if not start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
            raise DatasetError("it is no Parquet and no Arrow file as the first is", code="dataset-files-differ")
        raw.seek(0)
        try:
            schema = _arrow_reader(raw).schema
        except (pa.ArrowException, OSError) as error:
            _refuse(error)
        _check_claims(0, len(schema), schema, limits)
        return plain_schema(schema)


def _arrow_reader(raw: IO[bytes]) -> Any:
    raw.seek(0)
    opened = pa.ipc.open_file if raw.read(6) == b"ARROW1" else pa.ipc.open_stream
    raw.seek(0)
    return opened(pa.PythonFile(raw, mode="r"))


def _sliced(reader: Any) -> Iterator[pa.RecordBatch]:
    whole = (
        (reader.get_batch(number) for number in range(reader.num_record_batches))
        if hasattr(reader, "num_record_batches")
        else iter(reader)
    )
    for batch in whole:
        batch.validate(full=True)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _parquet(raw: IO[bytes]) -> pq.ParquetFile:
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
        _ = file.schema_arrow
    except MemoryError:
        raise
    except UnicodeDecodeError:
        raise DatasetError(
            "a column of the Parquet file has a name that is not UTF-8", code="dataset-encoding"
        ) from None
    except (pa.ArrowException, OSError) as error:
        _refuse(error)
    return file


def _stream(
    batches: Iterator[pa.RecordBatch],
    own: pa.Schema,
    rows: int,
    columns: int,
    source: ByteSource,
    limits: IntakeLimits,
    wanted: pa.Schema | None,
) -> RowStream:
    _check_claims(rows, columns, own, limits)
    schema = wanted or plain_schema(own)
    warnings: list[str] = []
    progress = _Progress(source.total, rows)
    ways = [ArrowColumn(field) for field in schema]
    if not own.equals(schema):
        batches = (aligned(batch, schema) for batch in batches)
    return RowStream(
        _rows(batches, ways, limits, progress, warnings),
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
    batches: Iterator[pa.RecordBatch],
    ways: list[ArrowColumn],
    limits: IntakeLimits,
    progress: _Progress,
    warnings: list[str],
) -> Iterator[RawRow]:
    names = [way.name for way in ways]
    try:
        for batch in batches:
            if progress.done + batch.num_rows > limits.max_rows:
                raise DatasetError(f"the file has more than {limits.max_rows} rows", code="dataset-too-large")
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
