"""The first sheet of an Excel workbook: a header row, then records."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

from spice_select.errors import DatasetError
from spice_select.ingest.archives import check_archive
from spice_select.ingest.csv_rows import record_of, unique_header
from spice_select.ingest.manifest import IntakeLimits
from spice_select.ingest.rows import RawRow, RowStream
from spice_select.ingest.source import ByteSource


def xlsx_rows(source: ByteSource, limits: IntakeLimits) -> RowStream:
    """Rows of an Excel workbook.

    Args:
        source: The file.
        limits: Caps on what it unpacks to and on columns.

    Raises:
        DatasetError: No workbook that can be read, or larger than allowed.
        MemoryError: It needs more than there is.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DatasetError("reading Excel needs the package openpyxl", code="dataset-format-unknown") from None
    file = source.plain_file()
    try:
        with zipfile.ZipFile(file) as archive:
            check_archive(archive.infolist(), source.total, limits)
        file.seek(0)
        book = load_workbook(file, read_only=True, data_only=True)
        sheet = next((sheet for sheet in book.worksheets if sheet.sheet_state == "visible"), None)
    except (DatasetError, MemoryError):
        raise
    except Exception as error:  # the reader raises whatever the XML makes it stumble over
        raise DatasetError(
            f"the Excel workbook cannot be read ({_said(error)}); save it again as .xlsx, or export the sheet as CSV",
            code="dataset-unreadable",
        ) from None
    if sheet is None:
        raise DatasetError("the Excel workbook has no visible sheet", code="dataset-empty")
    rows = sheet.iter_rows(values_only=True)
    first = next((row for row in rows if any(value is not None for value in row)), ())
    header = unique_header([str(value).strip() if value is not None else "" for value in first], limits)
    warnings = [f"read from sheet {sheet.title[:60]!a} of an Excel workbook"]
    others = [other.title[:60] for other in book.worksheets if other.title != sheet.title]
    if others:
        warnings.append(f"sheets not read: {', '.join(map(ascii, others[:10]))}")
    return RowStream(_rows(rows, header), lambda: source.total, header, None, warnings)


def _rows(rows: Iterator[tuple[Any, ...]], header: list[str]) -> Iterator[RawRow]:
    index = 0
    for row in rows:
        values = [_value(value) for value in row[: len(header)]]
        if all(value is None for value in values):
            continue
        yield RawRow(index, record_of(header, [*values, *[None] * (len(header) - len(values))]))
        index += 1


def _value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (datetime, date, time)) else value


def _said(error: Exception) -> str:
    """What the reader says, on one line and no longer than a line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
