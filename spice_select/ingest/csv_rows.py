"""CSV with a header row: every field is text, every record an object of the header's names."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from spice_select.errors import DatasetError, RowError
from spice_select.ingest.containers import Found
from spice_select.ingest.json_text import iter_lines
from spice_select.ingest.manifest import IntakeLimits
from spice_select.ingest.rows import RawRow, RowStream
from spice_select.ingest.source import ByteSource

UNNAMED: Final = "Unnamed: "
"""How a column without a name begins, as pandas calls it."""


def csv_rows(source: ByteSource, found: Found, limits: IntakeLimits) -> RowStream:
    """Rows of a CSV source.

    Args:
        source: Where the bytes come from.
        found: What the source is; holds the delimiter.
        limits: Caps; a field may be as long as a record.

    Raises:
        DatasetError: The header has a name twice or too many names, or the file breaks the rules of CSV.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    source.skip(found.skip)
    csv.field_size_limit(limits.max_row_bytes)
    # `strict` refuses stray quotes; without it a missing one silently swallows every row up to the next.
    quoting: Any = csv.QUOTE_MINIMAL if found.quotes else csv.QUOTE_NONE
    lines = _text_lines(source, limits)
    reader: Any = csv.reader(lines, delimiter=found.delimiter, strict=True, quoting=quoting)
    records = _records(reader)
    _, fields = next(records, (1, []))
    header = unique_header([name.strip() for name in fields], limits)
    warnings = [] if found.quotes else ["quotes in the table are characters: they do not enclose whole fields"]
    named = [name for name in header if not name.startswith(UNNAMED)]
    return RowStream(_rows(records, header), lambda: source.done, named, None, warnings, lambda: source.decoded)


def unique_header(header: list[str], limits: IntakeLimits) -> list[str]:
    """The names of the columns; of several without one, each is called by its place.

    Args:
        header: The first row.
        limits: Cap on the columns.

    Raises:
        DatasetError: Too many columns, or two of one name.
    """
    if len(header) > limits.max_columns:
        raise DatasetError(
            f"the header has {len(header)} columns, the limit is {limits.max_columns}", code="dataset-too-large"
        )
    header = [name or f"{UNNAMED}{place}" for place, name in enumerate(header)]
    twice = next((name for position, name in enumerate(header) if name in header[:position]), None)
    if twice is not None:
        raise DatasetError(f"the header has the column {twice[:60]!a} twice", code="dataset-duplicate-column")
    return header


def record_of(header: list[str], values: Sequence[Any]) -> dict[str, Any]:
    """A record; a column without a name is only in it where it holds something."""
    return {
        name: value
        for name, value in zip(header, values, strict=True)
        if value not in {"", None} or not name.startswith(UNNAMED)
    }


def _rows(records: Iterator[tuple[int, list[str]]], header: list[str]) -> Iterator[RawRow]:
    unnamed = any(name.startswith(UNNAMED) for name in header)
    for index, (_, fields) in enumerate(records):
        if len(fields) == len(header):
            yield RawRow(index, record_of(header, fields) if unnamed else dict(zip(header, fields, strict=True)))
        else:
            detail = f"the row has {len(fields)} fields, the header {len(header)}"
            yield RawRow(index, None, RowError(detail, code="wrong-column-count"))


def _records(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Fields of each record that is not a blank line, and the line it starts on."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _refuse(line, reader.line_num, str(error))
        if fields:
            yield line, fields


def _refuse(first: int, last: int, reason: str) -> NoReturn:
    if "unexpected end of data" in reason or "field larger than field limit" in reason:
        reason = "a field is too long or its closing quote is missing"
    where = f"line {first}" if last <= first else f"lines {first} to {last}"
    raise DatasetError(f"{where}: {reason}", code="dataset-invalid-csv")


def _text_lines(source: ByteSource, limits: IntakeLimits) -> Iterator[str]:
    for line, raw in iter_lines(source, limits.max_row_bytes):
        if raw is None:
            raise DatasetError(
                f"line {line}: the line has more than {limits.max_row_bytes} bytes", code="dataset-too-large"
            )
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            detail = f"line {line}: byte 0x{raw[error.start]:02x} is not valid UTF-8; save the file as UTF-8"
            raise DatasetError(detail, code="dataset-encoding") from None
        yield text + "\n"
