"""Reads one source into a data set folder. Runs inside the limited child process; see ``process``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from spice_select.errors import DatasetError, RowError
from spice_select.ingest.files import SourceFiles
from spice_select.ingest.manifest import DatasetManifest, IntakeLimits, IntakeOptions
from spice_select.ingest.rows import ArrowRow, RawRow, too_long
from spice_select.ingest.writer import FIRST_REJECTED, FolderWriter
from spice_select.records.conversation import Conversation
from spice_select.records.exact_numbers import compact_json, dump_record
from spice_select.records.formats import (
    ColumnRole,
    Form,
    detect_form,
    required_roles,
    settled_form,
    usual_columns,
)
from spice_select.records.objectives import possible_objectives
from spice_select.records.reading import Reading
from spice_select.records.suggested_columns import inner_messages, suggested_columns

SAMPLE_ROWS: Final = 1000
"""Records that decide the form of a data set."""

_SAMPLE_BYTES: Final = 64 * 2**20
_NAME_LENGTH: Final = 256

Report = Callable[[int, int, int], None]
"""Called with rows read, bytes read and bytes in all."""


class _Row(NamedTuple):
    """A row whose JSON has been written; ``record`` is None when there is a problem."""

    row: int
    value: Any
    record: str | None
    problem: RowError | None
    arrow: ArrowRow | None
    is_exact: bool = False


def parse(
    path: Path,
    folder: Path,
    options: IntakeOptions,
    limits: IntakeLimits,
    report: Report | None = None,
    *,
    continues: IntakeOptions | None = None,
) -> DatasetManifest:
    """Read a source into a data set folder, in this process and without protection.

    Args:
        path: The source: a file, or a folder of them (see ``files``).
        folder: Where the files go; it must exist.
        options: What is known about the data.
        limits: Caps; those on the process itself are not applied here.
        report: Called after each row.
        continues: Form and columns that were found in the data set whose rows these begin with.

    Returns:
        The manifest, which is also in the folder.

    Raises:
        DatasetError: The source as a whole cannot be read; the folder holds no manifest then.
    """
    with closing(SourceFiles(path, options, limits, utf8_first=continues is not None)) as source:
        names = _ColumnNames(limits.max_columns, source.column_names)
        raw = source.rows()
        rows = _sealed(islice(raw, limits.first_rows), names, limits)
        sample = _sample(rows)
        if not sample:
            raise DatasetError("the file holds no rows", code="dataset-empty")
        if continues is not None and continues.format is not None:
            form, columns = continues.format, dict(continues.columns or {})
        else:
            try:
                form, columns = _decide(sample, options, names)
            except DatasetError as error:
                error.column_names = names.listed
                raise
        reading = Reading(form, columns, options.format, options.columns)
        with closing(FolderWriter(folder, source.source_schema)) as writer:
            count = 0
            for row in chain(sample, rows):
                count += 1
                _write(row, reading, writer)
                if report is not None:
                    report(count, source.bytes_done(), source.total)
            _check_columns(columns, options, names)
            reading.check()
            if not writer.usable:
                _refuse_all(count, writer.rejected, writer.first_rejected)
            writer.finish()
        manifest = DatasetManifest(
            container=source.found.container,
            compression=source.compression,
            format=form,
            columns=columns,
            column_names=names.listed,
            bytes=source.total,
            sha256=source.sha256,
            rows_sha256=writer.rows_sha256,
            num_rows=count,
            num_usable=writer.usable,
            num_rejected=count - writer.usable,
            rejected=dict(sorted(writer.rejected.items())),
            warnings=[
                *source.warnings,
                *names.warnings,
                *_warnings_of(reading),
                *_warn_of_rejections(count, writer.usable),
            ],
            unused_columns=reading.notes.left,
            complete=count != limits.first_rows or next(raw, None) is None,
            shards=writer.shards,
            source_shards=writer.source_shards,
        )
        writer.write_manifest(manifest)
        return manifest


class _ColumnNames:
    """Names of the columns seen, in order of appearance, as many as may be listed."""

    def __init__(self, limit: int, known: list[str]) -> None:
        self._limit = limit
        self._names = dict.fromkeys(known)
        self._left_out = False

    @property
    def count(self) -> int:
        """How many there are so far."""
        return len(self._names)

    def see(self, record: dict[str, Any]) -> None:
        if record.keys() <= self._names.keys():
            return
        for name in record:
            if len(self._names) < self._limit and len(name) <= _NAME_LENGTH:
                self._names.setdefault(name)
            elif name not in self._names:
                self._left_out = True

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def listed(self) -> list[str]:
        return list(self._names)

    @property
    def warnings(self) -> list[str]:
        text = f"not every column name is listed: more than {self._limit}, or longer than {_NAME_LENGTH} characters"
        return [text] if self._left_out else []

    def shown(self) -> str:
        """The first few names, safe to show in a message."""
        few = ", ".join(ascii(name[:60]) for name in self.listed[:20])
        return few + (", ..." if len(self._names) > 20 else "")


def _sealed(rows: Iterator[RawRow], names: _ColumnNames, limits: IntakeLimits) -> Iterator[_Row]:
    # Rows with the JSON they will have in the result.
    for row in rows:
        if row.index >= limits.max_rows:
            raise DatasetError(f"the file has more than {limits.max_rows} rows", code="dataset-too-large")
        if row.problem is not None:
            yield _Row(row.index, None, None, row.problem, None)
            continue
        record = dump_record(row.value) if row.is_exact else compact_json(row.value)
        problem = _problem_of(row.value, record, limits)
        if problem is None and isinstance(row.value, dict):
            names.see(row.value)
        yield _Row(row.index, row.value, record, problem, row.arrow, row.is_exact)


def _check_finite(messages: Conversation) -> None:
    """Refuse a number in a conversation, such as an argument of a call, that a template would write as infinite.

    Raises:
        RowError: There is one.
    """
    try:
        json.dumps([messages, messages.beside], allow_nan=False)
    except ValueError:
        raise RowError("a number of the conversation is too large for a template", code="not-finite-number") from None


def _problem_of(value: Any, record: str, limits: IntakeLimits) -> RowError | None:
    try:
        size = len(record.encode())
    except UnicodeEncodeError:
        return RowError("text holds half of a surrogate pair, which is no character", code="invalid-unicode")
    if size > limits.max_row_bytes:
        return too_long(limits.max_row_bytes)
    if isinstance(value, dict) and any("\x00" in name for name in value):
        return RowError("a column name holds a null character", code="invalid-unicode")
    return None


def _sample(rows: Iterator[_Row]) -> list[_Row]:
    sample: list[_Row] = []
    size = 0
    for row in rows:
        sample.append(row)
        size += len(row.record or "")
        if len(sample) == SAMPLE_ROWS or size >= _SAMPLE_BYTES:
            break
    return sample


def _decide(sample: list[_Row], options: IntakeOptions, names: _ColumnNames) -> tuple[Form, dict[ColumnRole, str]]:
    records = [row.value for row in sample if row.problem is None and isinstance(row.value, dict)]
    decided = detect_form(records, form=options.format, columns=options.columns)
    if decided is not None:
        return decided
    if not records:
        reasons = Counter("not-an-object" if row.problem is None else row.problem.code for row in sample)
        first = [(row.row, row.problem or RowError("the record is no object", code="not-an-object")) for row in sample]
        _refuse_all(len(sample), reasons, first[:FIRST_REJECTED])
    given = options.columns or {}
    settled = settled_form(given, options.format)
    held = {name for record in records for name, value in record.items() if value is not None and value != ""}
    if settled is not None and not held.issuperset(given.values()):
        return settled, dict(given)  # such columns may turn up late
    for role, column in given.items():
        if column not in names:
            _refuse_column(role, column, names)
    if options.format is not None:
        usual = {
            role: " or ".join(usual_columns(options.format, role))
            for role in required_roles(options.format)
            if role not in given
        }
        needed = "; ".join(f"{role} in {where}" for role, where in usual.items()) or "all its columns in one row"
        raise DatasetError(
            f"format {options.format} needs {needed}; the columns are {names.shown()}", code="dataset-column-missing"
        )
    inside = inner_messages(records)
    meant = None if inside else suggested_columns(records)
    hint = f"; there are messages inside {inside!a}: write them to a column of their own" if inside else ""
    hint = f"; if that is what is meant, send columns {compact_json(meant)}" if meant else hint
    raise DatasetError(
        f"the columns {names.shown()} are in no known form; name them with the column mapping{hint}",
        code="dataset-form-unknown",
        pointer="#/columns",
    )


def _check_columns(columns: dict[ColumnRole, str], options: IntakeOptions, names: _ColumnNames) -> None:
    """Complain about a named column that no row has had; an optional one may turn up late."""
    for role, column in (options.columns or {}).items():
        if columns.get(role) == column and column not in names:
            _refuse_column(role, column, names)


def _refuse_column(role: str, column: str, names: _ColumnNames) -> None:
    raise DatasetError(
        f"no row has the column {column!a} that is to be the {role}; the columns are {names.shown()}",
        code="dataset-column-missing",
        pointer=f"#/columns/{role}",
    )


def _write(row: _Row, reading: Reading, writer: FolderWriter) -> None:
    if row.problem is not None or row.record is None:
        assert row.problem is not None
        writer.reject(row.row, row.problem)
        return
    try:
        messages = reading.read(row.row, row.value)
        if row.is_exact:
            _check_finite(messages)
    except RowError as problem:
        writer.reject(row.row, problem)
    else:
        writer.add(row.row, row.record, messages, row.arrow)


def _refuse_all(count: int, reasons: Counter[str], first: list[tuple[int, RowError]]) -> NoReturn:
    listed = ", ".join(f"{code} {number}" for code, number in reasons.most_common())
    errors = [{"detail": f"{reason.code}: {reason.detail}", "pointer": f"#/rows/{row}"} for row, reason in first]
    why = f" ({first[0][1].detail})" if first else ""
    raise DatasetError(
        f"none of the first {count} rows can be used: {listed}{why}",
        code="dataset-no-usable-rows",
        errors=errors,
        reasons=dict(reasons.most_common()),
    )


def _warnings_of(reading: Reading) -> list[str]:
    """What a person should know about the rows."""
    said = reading.notes.in_words()
    if reading.form == "preference":
        possible = " or ".join(possible_objectives(reading.form, reading.columns))
        said.append(f"preference data: it is selected from with gradients.objective {possible}")
    return said


def _warn_of_rejections(count: int, usable: int) -> list[str]:
    return [f"{count - usable} of {count} rows cannot be used"] if usable * 2 < count else []
