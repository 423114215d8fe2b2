"""The chosen rows of a sharded table, in pick order, without ever holding the table or all of the choice in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK_ROWS = 1024
"""Rows in memory at a time, and rows of a row group in what is written from them."""


class SelectedRows:
    """Rows picked from Parquet shards, read shard by shard into a scratch file, given back in pick order.

    Args:
        shards: The shards, in order; their rows are numbered through from 0.
        picks: Row number of each pick, in pick order; no number twice.
        scratch: Where the scratch file goes; removed on exit.
        columns: The columns wanted; None for all.

    Raises:
        IndexError: A pick is no row of the shards.
    """

    def __init__(
        self, shards: Sequence[Path], picks: Sequence[int], scratch: Path, columns: list[str] | None = None
    ) -> None:
        self._scratch = scratch
        rows = np.asarray(picks, dtype=np.int64)
        counts = [pq.read_metadata(shard).num_rows for shard in shards]
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        if len(rows) and (rows.min() < 0 or rows.max() >= starts[-1]):
            raise IndexError(f"picks from {rows.min()} to {rows.max()}, but the shards hold {starts[-1]} rows")
        owner = np.searchsorted(starts, rows, side="right") - 1
        self._batch = np.zeros(len(rows), dtype=np.int64)
        self._offset = np.zeros(len(rows), dtype=np.int64)
        schema = pq.read_schema(shards[0])
        self.schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_stream(sink, self.schema) as writer:
            for batch, shard in enumerate(np.unique(owner)):
                ranks = np.flatnonzero(owner == shard)
                ranks = ranks[np.argsort(rows[ranks], kind="stable")]
                table = pq.read_table(shards[shard], columns=columns)
                table = table.take(pa.array(rows[ranks] - starts[shard])).combine_chunks()
                writer.write_batch(
                    pa.RecordBatch.from_arrays([_whole(column) for column in table.columns], schema=self.schema)
                )
                self._batch[ranks] = batch
                self._offset[ranks] = np.arange(len(ranks))

    def __len__(self) -> int:
        return len(self._batch)

    def chunks(self) -> Iterator[pa.Table]:
        """The rows in pick order, at most ``CHUNK_ROWS`` at a time; may be asked for more than once."""
        with pa.memory_map(str(self._scratch)) as source:
            batches = list(pa.ipc.open_stream(source))
            for start in range(0, len(self), CHUNK_ROWS):
                owner = self._batch[start : start + CHUNK_ROWS]
                offset = self._offset[start : start + CHUNK_ROWS]
                by_batch = np.argsort(owner, kind="stable")
                parts = [
                    batches[batch].take(pa.array(offset[by_batch][owner[by_batch] == batch]))
                    for batch in np.unique(owner)
                ]
                # Each shard may bring its own dictionary for a dictionary column.
                table = pa.Table.from_batches(parts, self.schema).unify_dictionaries().combine_chunks()
                yield table.take(pa.array(np.argsort(by_batch, kind="stable")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.unlink(missing_ok=True)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
