"""Writes a data set folder: shards of usable rows, the list of the others, and nothing twice in memory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spice_select.atomic_files import move_whole
from spice_select.errors import RowError
from spice_select.ingest.manifest import DatasetManifest, ShardInfo
from spice_select.ingest.stored import (
    MANIFEST,
    REJECTED,
    SHARD_ROWS,
    clear_folder,
    rows_name,
    source_name,
    temporary_name,
)
from spice_select.records.conversation import Message, dump_conversation
from spice_select.records.records import row_sha256

if TYPE_CHECKING:
    from spice_select.ingest.rows import ArrowRow

FIRST_REJECTED: Final = 10
"""Rejected rows that are kept in memory, for an error about all of them."""

_GROUP_BYTES: Final = 8 * 2**20
_SCHEMA: Final = pa.schema(
    [("source_row", pa.int64()), ("row_sha256", pa.string()), ("record", pa.string()), ("messages", pa.string())]
)
# Every choice that could change the bytes of a file is made here, so that equal rows give equal files.
_PARQUET: Final[dict[str, Any]] = {"compression": "zstd", "compression_level": 3, "version": "2.6"}


class _Usable(NamedTuple):
    row: int
    digest: str
    record: str
    messages: str
    arrow: ArrowRow | None


class FolderWriter:
    """Takes rows in the order of the source and writes the folder.

    Args:
        folder: Where the files go; it must exist. What an earlier run left there is removed.
        source_schema: Schema of a Parquet source, to keep its rows in their own types too.
    """

    def __init__(self, folder: Path, source_schema: pa.Schema | None = None) -> None:
        clear_folder(folder)
        self._folder = folder
        self._source_schema = source_schema
        self._pending: list[_Usable] = []
        self._pending_bytes = 0
        self._shard_rows = 0
        self._rows_file: _ParquetFile | None = None
        self._source_file: _ParquetFile | None = None
        self._whole = hashlib.sha256()
        self._conversations = hashlib.sha256()
        self._rejected: IO[str] = (folder / temporary_name(REJECTED)).open("w", encoding="utf-8", newline="\n")
        self.shards: list[ShardInfo] = []
        self.source_shards: list[ShardInfo] = []
        self.rejected: Counter[str] = Counter()
        self.first_rejected: list[tuple[int, RowError]] = []
        self.usable = 0

    @property
    def rows_sha256(self) -> str:
        """Digest (hex) of the usable rows so far, see ``records.rows_sha256``."""
        return self._whole.hexdigest()

    def add(self, row: int, record: str, messages: list[Message], arrow: ArrowRow | None) -> None:
        """Append a usable row.

        Args:
            row: 0-based position in the source.
            record: Its compact JSON.
            messages: Its conversation.
            arrow: The row as a Parquet source holds it.
        """
        digest = row_sha256(record)
        self._whole.update(digest.encode() + b"\n")
        text = dump_conversation(messages)
        self._conversations.update(hashlib.sha256(text.encode()).digest())
        self._pending.append(_Usable(row, digest, record, text, arrow))
        self._pending_bytes += len(record) + len(text)
        self.usable += 1
        self._shard_rows += 1
        if self._shard_rows == SHARD_ROWS:
            self._close_shard()
        elif self._pending_bytes >= _GROUP_BYTES:
            self._write_group()

    def reject(self, row: int, reason: RowError) -> None:
        """Note a row that cannot be used."""
        self.rejected[reason.code] += 1
        if len(self.first_rejected) < FIRST_REJECTED:
            self.first_rejected.append((row, reason))
        line = {"row": row, "code": reason.code, "detail": reason.detail}
        self._rejected.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")

    def finish(self) -> None:
        """Write what is left; everything but the manifest is in place then."""
        if self._shard_rows:
            self._close_shard()
        _commit(self._rejected, self._folder / REJECTED)

    def close(self) -> None:
        """Let go of files that were not finished; they keep their temporary names."""
        self._rejected.close()
        for file in (self._rows_file, self._source_file):
            if file is not None:
                file.close()

    def write_manifest(self, manifest: DatasetManifest) -> None:
        """Write the manifest, which makes the folder complete."""
        with (self._folder / temporary_name(MANIFEST)).open("w", encoding="utf-8", newline="\n") as file:
            file.write(manifest.model_dump_json(indent=1) + "\n")
            _commit(file, self._folder / MANIFEST)

    def _write_group(self) -> None:
        shard = len(self.shards)
        columns = list(zip(*(usable[:4] for usable in self._pending), strict=True))
        table = pa.table([pa.array(column, type) for column, type in zip(columns, _SCHEMA.types, strict=True)], _SCHEMA)
        if self._rows_file is None:
            self._rows_file = _ParquetFile(self._folder, rows_name(shard), _SCHEMA)
        self._rows_file.write(table)
        if self._source_schema is not None:
            if self._source_file is None:
                self._source_file = _ParquetFile(self._folder, source_name(shard), self._source_schema)
            rows = [usable.arrow for usable in self._pending if usable.arrow is not None]
            self._source_file.write(_table_of(rows, self._source_schema))
        self._pending, self._pending_bytes = [], 0

    def _close_shard(self) -> None:
        if self._pending:
            self._write_group()
        assert self._rows_file is not None
        info = self._rows_file.commit(self._shard_rows)
        self.shards.append(info.model_copy(update={"messages_sha256": self._conversations.hexdigest()}))
        if self._source_file is not None:
            self.source_shards.append(self._source_file.commit(self._shard_rows))
        self._rows_file = self._source_file = None
        self._shard_rows = 0
        self._conversations = hashlib.sha256()


class _ParquetFile:
    """One Parquet file under a temporary name until it is complete."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self._path = folder / name
        self._file = (folder / temporary_name(name)).open("wb")
        self._writer = pq.ParquetWriter(self._file, schema, **_PARQUET)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def commit(self, rows: int) -> ShardInfo:
        self._writer.close()
        _commit(self._file, self._path)
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ShardInfo(name=self._path.name, rows=rows, bytes=self._path.stat().st_size, sha256=digest)


def _table_of(rows: list[ArrowRow], schema: pa.Schema) -> pa.Table:
    pieces: list[pa.RecordBatch] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end].batch is not rows[start].batch:
            offsets = pa.array([row.offset for row in rows[start:end]], type=pa.int64())
            pieces.append(rows[start].batch.take(offsets))
            start = end
    return pa.Table.from_batches(pieces, schema)


def _commit(file: IO[Any], path: Path) -> None:
    """Close a finished file and give it its name."""
    file.close()
    move_whole(path.parent / temporary_name(path.name), path)
