"""One file, or a folder of files of one kind, as one stream of rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spice_select.errors import DatasetError
from spice_select.ingest.archives import data_files, is_archive, shown_name, unpacked
from spice_select.ingest.containers import Found, find_container
from spice_select.ingest.csv_rows import csv_rows
from spice_select.ingest.manifest import Compression, IntakeLimits, IntakeOptions
from spice_select.ingest.rows import RawRow, RowStream, json_rows
from spice_select.ingest.source import ByteSource

if TYPE_CHECKING:
    import pyarrow as pa


def numbered(position: int, name: str) -> str:
    """Name of a file inside a folder of files: they are read in the order of their numbers.

    Args:
        position: 0-based.
        name: What people call it.
    """
    printable = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in name)
    return f"{position:05d}-{printable[-100:] or 'file'}"


class SourceFiles:
    """The rows of a source, however many files it is.

    Args:
        path: A file, or a folder whose files were named by ``numbered``.
        options: What is known about the data.
        limits: Caps; those on bytes hold for all files together.
        utf8_first: Whether files that are UTF-8 are read as such though another encoding is asked for.

    Attributes:
        total: Bytes of all files.
        found: What they are.
        compression: How the first one is compressed.
        column_names: Columns known beforehand.
        source_schema: Schema of Parquet files.
        warnings: Filled while reading.

    Raises:
        DatasetError: Nothing in the folder, more bytes than allowed, or the first file cannot be read.
    """

    def __init__(self, path: Path, options: IntakeOptions, limits: IntakeLimits, *, utf8_first: bool = False) -> None:
        self._source: ByteSource | None = None
        self._encoding, self._utf8_first = options.encoding, utf8_first
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._begin(path, options, limits)
        except BaseException:
            self.close()
            raise

    def _begin(self, path: Path, options: IntakeOptions, limits: IntakeLimits) -> None:
        """Look at the files and open the first.

        Raises:
            DatasetError: Nothing in the folder, more bytes than allowed, or the first file cannot be read.
        """
        self.warnings: list[str] = []
        self._root = path
        inside = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        # An archive that came from a source lies in a folder by itself.
        packed = self._unpack(inside[0], limits) if len(inside) == 1 else None
        if packed is not None:
            self._archive, self._root = inside[0], packed
            self.warnings.append("the file was unpacked: it is a zip archive")
        self._zipped = packed is not None
        self._files = data_files(self._root, options.split, self.warnings) if self._root.is_dir() else [path]
        if not self._files:
            raise DatasetError("the source has no files", code="dataset-empty")
        self.total = sum(file.stat().st_size for file in self._files)
        if self.total > limits.max_bytes:
            detail = f"the files have {self.total} bytes together, the limit is {limits.max_bytes}"
            raise DatasetError(detail, code="dataset-too-large")
        self._names_of_columns = (options.columns or {}).values()
        self._limits = limits
        self._digests: list[str] = []
        self._before = 0
        self._schema = self._one_schema()
        self._stream = self._open(0)
        assert self._source is not None
        self.compression: Compression = "zip" if self._zipped else self._source.compression
        self.column_names: list[str] = self._stream.column_names
        self.source_schema: pa.Schema | None = self._stream.source_schema

    def _open(self, position: int) -> RowStream:
        """Open a file.

        Raises:
            DatasetError: It cannot be read, or is of another kind than the first.
        """
        file = self._files[position]
        with self._named(position):
            self._source = source = ByteSource(file, self._limits, self._encoding, utf8_first=self._utf8_first)
            try:
                self._digests.append(source.sha256)
                self.warnings += [warning for warning in source.warnings if warning not in self.warnings]
                found = find_container(source.head, self._names_of_columns)
                if position == 0:
                    self.found: Found = found
                elif found.container != self.found.container:
                    detail = f"it is {found.container}, the first file is {self.found.container}"
                    raise DatasetError(detail, code="dataset-files-differ")
                return _open(source, found, self._limits, self._schema)
            except BaseException:
                source.close()
                raise

    def rows(self) -> Iterator[RawRow]:
        """Every row, numbered through; reading on may raise ``DatasetError``."""
        count = 0
        for position in range(len(self._files)):
            if position:
                self._stream = self._open(position)
            first = count
            with self._named(position):
                for row in self._stream.rows:
                    count += 1
                    yield row if not first else replace(row, index=first + row.index)
            assert self._source is not None
            self._before += self._source.total
            spent = self._stream.decoded()
            self._limits = self._limits.model_copy(
                update={"max_decoded_bytes": max(1, self._limits.max_decoded_bytes - spent)}
            )
            self.warnings += [warning for warning in self._stream.warnings if warning not in self.warnings]
            if position + 1 < len(self._files):
                self._source.close()

    def bytes_done(self) -> int:
        """Bytes of all files read so far."""
        return min(self.total, self._before + self._stream.bytes_done())

    @property
    def sha256(self) -> str:
        """Digest (hex) of the file; of several, that of their digests in order, a line each."""
        if self._zipped:
            with self._archive.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if len(self._digests) == 1:
            return self._digests[0]
        return hashlib.sha256("".join(f"{digest}\n" for digest in self._digests).encode()).hexdigest()

    def close(self) -> None:
        """Let go of the files."""
        if self._source is not None:
            self._source.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _unpack(self, file: Path, limits: IntakeLimits) -> Path | None:
        if not is_archive(file):
            return None
        self._scratch = tempfile.TemporaryDirectory(prefix="unpacked-")
        return unpacked(file, Path(self._scratch.name), limits)

    def _one_schema(self) -> pa.Schema | None:
        """The schema that holds the rows of all Parquet and Arrow files; None for other kinds, or a single file."""
        if len(self._files) == 1:
            return None
        with self._files[0].open("rb") as first:
            if not first.read(6).startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
                return None
        from spice_select.ingest.arrow_schema import missing_columns, united
        from spice_select.ingest.parquet_rows import schema_of

        names = [shown_name(file, self._root) for file in self._files]
        schemas = []
        for position, file in enumerate(self._files):
            with self._named(position):
                schemas.append(schema_of(file, self._limits))
        whole = united(schemas, names)
        for schema, name in zip(schemas, names, strict=True):
            missing = missing_columns(schema, whole)
            if missing:
                listed = ", ".join(ascii(column[:60]) for column in missing[:10])
                self.warnings.append(f"{name} has no column {listed}: null there")
        return whole

    @contextmanager
    def _named(self, position: int) -> Generator[None]:
        """Say in an error which of several files it is about.

        Raises:
            DatasetError: The one that came, with the file's name.
        """
        try:
            yield
        except DatasetError as error:
            if len(self._files) == 1:
                raise
            name = shown_name(self._files[position], self._root)
            raise DatasetError(f"{name}: {error.detail}", code=error.code) from None


def _open(source: ByteSource, found: Found, limits: IntakeLimits, schema: pa.Schema | None) -> RowStream:
    if found.container == "xlsx":
        from spice_select.ingest.xlsx_rows import xlsx_rows

        return xlsx_rows(source, limits)
    if found.container == "csv":
        return csv_rows(source, found, limits)
    if found.container in {"parquet", "arrow"}:
        # Only such sources pay for what reads them.
        from spice_select.ingest.parquet_rows import arrow_rows, parquet_rows

        return (parquet_rows if found.container == "parquet" else arrow_rows)(source, limits, schema)
    return json_rows(source, found, limits)
