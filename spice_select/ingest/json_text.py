"""JSON Lines and JSON arrays, cut into records without holding more than one of them, and each record checked.

Both containers share one decoder, so that a record means the same in either. Python's own array reader would need the
whole file in memory; the streaming parsers drop all but the last of two equal keys and cannot say on which line they
stopped. A document is accepted exactly when every piece between the top-level commas is a JSON value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, NoReturn

from spice_select.errors import DatasetError, RowError
from spice_select.ingest.source import ByteSource
from spice_select.records.exact_numbers import MOST_DIGITS, number_of

_BLANK: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_STRUCTURE: Final = re.compile(rb'["\[\]{},]')
_STRING_BODY: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BRACKET: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


class Piece(NamedTuple):
    """Bytes of one record.

    Attributes:
        line: 1-based line of its first byte.
        raw: The bytes; None when there are more than a record may have.
    """

    line: int
    raw: bytes | None


def iter_lines(source: ByteSource, limit: int) -> Iterator[Piece]:
    r"""Lines of the source without their line end, split at ``\n`` and nowhere else, blank ones included.

    Args:
        source: Where the bytes come from.
        limit: Most bytes of a line; of longer ones only the number is given.
    """
    line, held, dropping = 1, b"", False
    while chunk := source.read():
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            whole = held + part
            yield Piece(line, None if dropping or len(whole) > limit else whole)
            line, held, dropping = line + 1, b"", False
        held = b"" if dropping else held + rest
        if len(held) > limit:
            held, dropping = b"", True
    if held or dropping:
        yield Piece(line, None if dropping else held)


def iter_values(source: ByteSource, limit: int) -> Iterator[Piece]:
    """JSON objects one after the other, each over as many lines as it likes.

    Args:
        source: Where the bytes come from.
        limit: Most bytes of an object; of longer ones only the line is given.

    Raises:
        DatasetError: The last object is not closed.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _refuse()
    element = _Element(limit)
    depth, in_string, escaped = 0, False, False
    while chunk := source.read():
        position = start = 0
        while True:
            if in_string:
                position += escaped
                position = _string_end(chunk, position)
                escaped = position < len(chunk) and chunk[position] == 0x5C
                if escaped or position >= len(chunk):
                    break
                in_string, position = False, position + 1
                continue
            match = _STRUCTURE.search(chunk, position)
            if match is None:
                break
            position, mark = match.end(), match.group()
            if mark == b'"':
                in_string = True
            elif mark in b"[{":
                depth += 1
            elif mark in b"]}":
                depth -= 1
                if depth <= 0:
                    element.add(chunk[start:position])
                    start = position
                    depth = 0
                    yield element.take()
        element.add(chunk[start:])
    if not element.is_blank:
        _refuse(element.last_line, "the last object is not closed; is the file cut off?")


def iter_json_lines(source: ByteSource, limit: int) -> Iterator[Piece]:
    """Records of a JSON Lines source: its lines that are not blank, without byte order marks before them."""
    for piece in iter_lines(source, limit):
        if piece.raw is None:
            yield piece
        elif piece.raw.strip(_BLANK):
            yield Piece(piece.line, piece.raw.removeprefix(_BOM)) if piece.raw.startswith(_BOM) else piece


def iter_array(source: ByteSource, limit: int, *, brackets: bytes = b"[]", more: bool = False) -> Iterator[Piece]:
    """Elements of a JSON array.

    Args:
        source: Where the bytes come from; the first that is not white space is ``[``.
        limit: Most bytes of an element; of longer ones only the line is given.
        brackets: What opens and closes it; those of an object give its members, with their names.
        more: Whether something may follow it, which is not read.

    Raises:
        DatasetError: The array is not closed, holds an empty place, or something follows it.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _refuse()
    element = _Element(limit)
    depth, in_string, escaped, closed, first = 0, False, False, False, True
    while chunk := source.read():
        position = start = 0
        while not closed:
            if in_string:
                position += escaped
                position = _string_end(chunk, position)
                escaped = position < len(chunk) and chunk[position] == 0x5C
                if escaped or position >= len(chunk):
                    break
                in_string, position = False, position + 1
                continue
            match = _STRUCTURE.search(chunk, position)
            if match is None:
                break
            position, mark = match.end(), match.group()
            if mark == b'"':
                in_string = True
            elif mark in b"[{":
                depth += 1
                if depth == 1:
                    element.line += chunk[:position].count(b"\n")
                    start = position
            elif mark in b"]}":
                depth -= 1
                closed = depth == 0
            if closed or (mark == b"," and depth == 1):
                element.add(chunk[start : position - 1])
                start = position
                if closed and mark != brackets[1:]:
                    _refuse(element.line, f"the array is not closed with {brackets[1:].decode()}")
                empty = element.is_blank
                piece = element.take()
                if not empty:
                    yield piece
                elif not (closed and first):
                    _refuse(piece.line, "expected a value between the commas of the array")
                first = False
        if closed and more:
            return
        element.add(chunk[start:])
        if closed and not element.is_blank:
            _refuse(element.take().line, "something follows the end of the array")
    if not closed:
        _refuse(element.last_line, "the array is not closed; is the file cut off?")


def _string_end(chunk: bytes, position: int) -> int:
    match = _STRING_BODY.match(chunk, position)
    return position if match is None else match.end()


class _Element:
    """The bytes between two top-level commas, gathered over chunks, and the line they are on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.line = 1
        self._parts: list[bytes] = []
        self._size = 0
        self._dropped = False
        self._lines_dropped = 0

    def add(self, part: bytes) -> None:
        """Append bytes; past the limit only their line ends are counted."""
        self._size += len(part)
        if self._size > self._limit + 2**16:  # room for white space around the element
            self._dropped = True
            self._lines_dropped += sum(held.count(b"\n") for held in self._parts) + part.count(b"\n")
            self._parts.clear()
        elif part:
            self._parts.append(part)

    @property
    def is_blank(self) -> bool:
        """Whether nothing but white space has come."""
        return not self._dropped and all(not part.strip(_BLANK) for part in self._parts)

    @property
    def last_line(self) -> int:
        """The line of the last byte."""
        return self.line + self._lines_dropped + sum(part.count(b"\n") for part in self._parts)

    def take(self) -> Piece:
        """The element; the next one starts empty."""
        whole = b"".join(self._parts)
        value = whole.strip(_BLANK)
        before = whole[: len(whole) - len(whole.lstrip(_BLANK))].count(b"\n")
        piece = Piece(self.line + before, None if self._dropped or len(value) > self._limit else value)
        self.line = self.last_line
        self._parts, self._size, self._dropped, self._lines_dropped = [], 0, False, 0
        return piece


def _refuse(line: int, reason: str, *, row: int | None = None) -> NoReturn:
    raise DatasetError(
        f"line {line}: {reason}", code="dataset-invalid-json", pointer=None if row is None else f"#/rows/{row}"
    )


class RecordDecoder:
    """Turns the bytes of one record into a value.

    Args:
        max_depth: Deepest nesting of brackets.

    Attributes:
        is_exact: Whether the latest record holds a number that no double holds.
    """

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._repeated = self._huge = self.is_exact = False
        self._decode = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._float, parse_int=self._int, parse_constant=_no_constant
        ).decode

    def decode(self, raw: bytes, line: int, row: int) -> Any:
        """Value of one record.

        Args:
            raw: Its bytes.
            line: 1-based line it starts on, for messages.
            row: 0-based position of the record, for the pointer.

        Raises:
            DatasetError: The bytes are no UTF-8 or no JSON: what follows cannot be trusted either.
            RowError: JSON that this package does not take: too deep, a key twice, a number too large.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            at = line + raw[: error.start].count(b"\n")
            detail = f"line {at}: byte 0x{raw[error.start]:02x} is not valid UTF-8; save the file as UTF-8"
            raise DatasetError(detail, code="dataset-encoding", pointer=f"#/rows/{row}") from None
        if _deeper_than(raw, self._max_depth):
            raise RowError(f"nested deeper than {self._max_depth} levels", code="too-deep")
        self._repeated = self._huge = self.is_exact = False
        try:
            value = self._decode(text)
        except json.JSONDecodeError as error:
            reason = "something follows the record" if error.msg == "Extra data" else error.msg
            _refuse(line + error.lineno - 1, f"invalid JSON at column {error.colno}: {reason}", row=row)
        except _ConstantError as error:
            _refuse(line, f"invalid JSON: {error} is not a JSON value", row=row)
        except RecursionError:
            raise RowError("nested too deep to be read", code="too-deep") from None
        if self._repeated:
            raise RowError("an object has the same key twice", code="duplicate-key")
        if self._huge:
            raise RowError(f"a whole number has more than {MOST_DIGITS} digits", code="not-finite-number")
        return value

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        self._repeated |= len(made) != len(pairs)
        return made

    def _float(self, text: str) -> float:
        number = float(text)
        if repr(number) == text:  # as programs write it: looked at first, for speed
            return number
        number = number_of(text)
        self.is_exact |= type(number) is not float
        return number

    def _int(self, text: str) -> int:
        if len(text) > MOST_DIGITS:
            self._huge = True
            return 0
        return int(text)


class _ConstantError(ValueError):
    """NaN, Infinity or -Infinity."""


def _no_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


def _deeper_than(raw: bytes, limit: int) -> bool:
    """Whether the brackets outside strings nest deeper than the limit; cheap unless there are many brackets."""
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return False
    depth = 0
    for match in _BRACKET.finditer(raw):
        mark = match.group()
        if mark in {b"[", b"{"}:
            depth += 1
            if depth > limit:
                return True
        elif mark in {b"]", b"}"}:
            depth -= 1
    return False
