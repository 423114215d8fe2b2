"""Rows of a source in any container, as one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from spice_select.errors import RowError
from spice_select.ingest.containers import Found
from spice_select.ingest.json_text import Piece, RecordDecoder, iter_array, iter_json_lines, iter_values
from spice_select.ingest.manifest import IntakeLimits
from spice_select.ingest.source import ByteSource

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowRow(NamedTuple):
    """A row as a Parquet source holds it."""

    batch: pa.RecordBatch
    offset: int


@dataclass(frozen=True, slots=True)
class RawRow:
    """One record of the source, not yet understood.

    Attributes:
        index: 0-based position in the source.
        value: Its JSON value; meaningless when there is a problem.
        problem: Why it could not even be taken as a JSON value.
        arrow: The row with its own types, of a Parquet source.
        is_exact: Whether it holds a number that no double holds.
    """

    index: int
    value: Any
    problem: RowError | None = None
    arrow: ArrowRow | None = None
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class RowStream:
    """All rows of a source.

    Attributes:
        rows: The rows; reading on may raise ``DatasetError``.
        bytes_done: How much of the source has been read.
        column_names: Columns known beforehand.
        source_schema: Schema of a Parquet source.
        warnings: Filled while reading.
        decoded: Bytes that have come out so far, in memory or after decompression.
    """

    rows: Iterator[RawRow]
    bytes_done: Callable[[], int]
    column_names: list[str]
    source_schema: pa.Schema | None
    warnings: list[str]
    decoded: Callable[[], int] = lambda: 0


def too_long(limit: int) -> RowError:
    """The reason for a record of more bytes than allowed."""
    return RowError(f"the record has more than {limit} bytes", code="too-long")


def json_rows(source: ByteSource, found: Found, limits: IntakeLimits) -> RowStream:
    """Rows of a JSON Lines or JSON array source."""
    source.skip(found.skip)
    warnings = [found.note] if found.note else []
    return RowStream(_json_rows(source, found, limits), lambda: source.done, [], None, warnings, lambda: source.decoded)


def _json_rows(source: ByteSource, found: Found, limits: IntakeLimits) -> Iterator[RawRow]:
    decoder = RecordDecoder(limits.max_depth)
    for index, piece in enumerate(_pieces(source, found, limits.max_row_bytes)):
        if piece.raw is None:
            yield RawRow(index, None, too_long(limits.max_row_bytes))
            continue
        try:
            if found.layout == "by-id":
                value = _named(decoder.decode(b"{" + piece.raw + b"}", piece.line, index))
            else:
                value = decoder.decode(piece.raw, piece.line, index)
        except RowError as problem:
            yield RawRow(index, None, problem)
        else:
            yield RawRow(index, value, is_exact=decoder.is_exact)


def _pieces(source: ByteSource, found: Found, limit: int) -> Iterator[Piece]:
    if found.container == "jsonl":
        return iter_json_lines(source, limit)
    if found.layout == "values":
        return iter_values(source, limit)
    if found.layout == "by-id":
        return iter_array(source, limit, brackets=b"{}")
    return iter_array(source, limit, more=bool(found.note))


def _named(member: dict[str, Any]) -> Any:
    """The record under a name, which becomes its ``id`` where it has none."""
    name, value = next(iter(member.items()))
    return {"id": name, **value} if isinstance(value, dict) else value
