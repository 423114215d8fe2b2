"""What a source is, decided by its first bytes and never by its name."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, NamedTuple

from spice_select.errors import DatasetError
from spice_select.ingest.json_layout import json_layout
from spice_select.ingest.manifest import Container
from spice_select.records.formats import FORMS, required_roles, usual_columns

BOM: Final = b"\xef\xbb\xbf"
DELIMITERS: Final = (",", "\t", ";", "|")
_SAMPLED_LINES: Final = 20

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "gzip inside gzip"),
    (b"\x28\xb5\x2f\xfd", "zstandard inside something compressed"),
    (b"BZh", "bzip2 inside something compressed"),
    (b"\xfd7zXZ\x00", "xz inside something compressed"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "a numpy array"),
    (b"PARE", "an encrypted Parquet file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF-", "a PDF"),
    (b"GGUF", "a GGUF model"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_TAKEN: Final = "JSON Lines, JSON, CSV, Excel, Arrow or Parquet, plain or compressed (gzip, zstd, bzip2, xz, zip)"


class Found(NamedTuple):
    """What a source is.

    Attributes:
        container: How records are laid out in it.
        skip: Bytes before the text proper (a byte order mark).
        delimiter: Of CSV, what stands between two fields.
        quotes: Of CSV, whether a quote at the start of a field has a meaning.
        layout: Of JSON, where the records are: elements of an ``array``, ``values`` one after the other, or members of
            an object (``by-id``).
        note: What a person should know about that.
    """

    container: Container
    skip: int = 0
    delimiter: str = ""
    quotes: bool = True
    layout: Literal["array", "values", "by-id"] = "array"
    note: str = ""


def find_container(head: bytes, named_columns: Collection[str] = ()) -> Found:
    """Decide what a source is.

    CSV has no mark of its own, so it is only taken for granted when its header names a column we know or are told of;
    otherwise several lines must agree on a number of fields.

    Args:
        head: Its first bytes, decompressed; the whole of it when it is short.
        named_columns: Columns that the owner of the data named.

    Raises:
        DatasetError: Nothing we read, another encoding, or nothing but white space.
    """
    if head.startswith(b"PAR1"):
        return Found("parquet")
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Found("arrow")
    if head.startswith(b"PK\x03\x04"):
        return Found("xlsx")
    for magic, name in _MAGIC:
        if head.startswith(magic):
            raise DatasetError(f"the file is {name}; send {_TAKEN}", code="dataset-format-unknown")
    if head[257:262] == b"ustar":
        raise DatasetError(f"the file is a tar archive; send {_TAKEN}", code="dataset-format-unknown")
    skip = len(BOM) if head.startswith(BOM) else 0
    text = head[skip:]
    if b"\x00" in text:
        raise DatasetError(f"the file is binary and not Parquet; send {_TAKEN}", code="dataset-format-unknown")
    start = text.lstrip(b" \t\r\n")
    if not start:
        raise DatasetError("the file holds nothing but white space", code="dataset-empty")
    if start[:1] == b"[" and not first_line_is_whole(start):
        return Found("json", skip)
    if start[:1] == b"{":
        spread = json_layout(start)
        if spread is not None:
            layout, offset, note = spread
            lead = len(text) - len(start)
            return Found("json", skip + lead + offset, layout=layout, note=note)
    if start[:1] in {b"[", b"{"}:
        return Found("jsonl", skip)
    first = start.split(b"\n", 1)[0].strip()
    if first[:4].lower() == b"sep=" and len(first) == 5:
        after = len(text) - len(start) + start.index(b"\n") + 1 if b"\n" in start else len(text)
        delimiter = first[4:].decode(errors="replace")
        return Found("csv", skip + after, delimiter, quotes=_has_quotes(text[after:], delimiter))
    found = _csv_delimiter(text, named_columns)
    if found is not None:
        return Found("csv", skip, found, quotes=_has_quotes(text, found))
    lines = [line.strip() for line in start.split(b"\n")[:_SAMPLED_LINES] if line.strip()]
    if _is_json(lines[0]) or sum(line.startswith(b"{") for line in lines) * 2 >= len(lines):
        return Found("jsonl", skip)
    raise DatasetError(f"the file is not in a known format; send {_TAKEN}", code="dataset-format-unknown")


def first_line_is_whole(start: bytes) -> bool:
    """Whether a text that begins with a bracket is JSON Lines: its first line is a value and more follows.

    Args:
        start: The text, or its beginning, without white space in front.
    """
    first, _, rest = start.partition(b"\n")
    return bool(rest.strip()) and _is_json(first)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _csv_delimiter(text: bytes, named_columns: Collection[str]) -> str | None:
    known = {name.lower() for name in named_columns}
    known.update(name for form in FORMS for role in required_roles(form) for name in usual_columns(form, role))
    # The head may end in the middle of a character or a record, so only whole lines of it are looked at.
    lines = _whole_lines(text)
    agreeing: list[str] = []
    for delimiter in DELIMITERS:
        rows = _first_rows(lines, delimiter)
        header = [name.strip().lower() for name in rows[0]] if rows else []
        if known & set(header):
            return delimiter
        if len(header) >= 2 and len(rows) >= 3 and all(len(row) == len(header) for row in rows):
            agreeing.append(delimiter)
    return agreeing[0] if agreeing else None


def _whole_lines(text: bytes) -> list[str]:
    whole = text if len(text) < 2**15 else text[: text.rfind(b"\n") + 1]
    return whole.decode(errors="replace").split("\n")


def _has_quotes(text: bytes, delimiter: str) -> bool:
    """Whether quotes enclose fields; in tables between tabs or bars they are often just characters."""
    if delimiter not in {"\t", "|"} or b'"' not in text:
        return True
    lines = [line.removesuffix("\r") for line in _whole_lines(text) if line.strip()]
    counts = {len(line.split(delimiter)) for line in lines}
    reader: Any = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)
    try:
        quoted = {len(row) for row in reader if row}
    except csv.Error:
        return len(counts) != 1
    return len(quoted) == 1 or len(counts) != 1


def _first_rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    reader: Any = csv.reader((line + "\n" for line in lines), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) == _SAMPLED_LINES:
                break
    except csv.Error:
        return rows[:1]
    return rows
