"""Rows as the intake stored them, read again. pyarrow is only imported when a file is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spice_select.records.conversation import Conversation, load_conversation
from spice_select.records.exact_numbers import load_record

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS: Final = 1024
"""Usable rows in every shard but the last. The row at position p is row p % SHARD_ROWS of shard p // SHARD_ROWS."""

MANIFEST: Final = "manifest.json"
REJECTED: Final = "rejected.jsonl"
_READ_ROWS: Final = 256


def rows_name(shard: int) -> str:
    """File name of the rows of a shard."""
    return f"rows-{shard:05d}.parquet"


def source_name(shard: int) -> str:
    """File name of the same rows with the types of a Parquet source."""
    return f"source-{shard:05d}.parquet"


def temporary_name(name: str) -> str:
    """What a file is called until it is complete."""
    return f".{name}.part"


def clear_folder(folder: Path) -> None:
    """Remove what an intake wrote into a folder, finished or not, and nothing else."""
    for pattern in ("rows-*.parquet", "source-*.parquet", REJECTED, MANIFEST):
        for path in [*folder.glob(pattern), *folder.glob(temporary_name(pattern))]:
            path.unlink()


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One usable row.

    Attributes:
        source_row: 0-based position of the record in the source.
        row_sha256: Digest (hex) of ``record``.
        record: Compact JSON of the record, exactly the line that ``selected.jsonl`` holds.
        messages: The conversation it stands for.
    """

    source_row: int
    row_sha256: str
    record: str
    messages: Conversation

    def value(self) -> dict[str, Any]:
        """The record as an object."""
        parsed: dict[str, Any] = load_record(self.record)
        return parsed


def iter_rows(path: Path) -> Iterator[PoolRow]:
    """The rows of one ``rows-*.parquet``, in order; memory for a few hundred of them at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_READ_ROWS, use_threads=False):
            for row in batch.to_pylist():
                yield PoolRow(row["source_row"], row["row_sha256"], row["record"], load_conversation(row["messages"]))


def read_rows(folder: Path, positions: Sequence[int]) -> list[PoolRow]:
    """Rows at these positions of a data set folder.

    Args:
        folder: What ``read_dataset`` wrote.
        positions: 0-based positions among the usable rows, in any order, repeats allowed.

    Returns:
        One row for each position, in the order asked for.

    Raises:
        IndexError: A position that the data set does not have.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _check_found()
    found: dict[int, PoolRow] = {}
    for shard, wanted in _by_shard(positions):
        path = folder / rows_name(shard)
        if path.exists():
            found.update((p, row) for p, row in enumerate(iter_rows(path), shard * SHARD_ROWS) if p in wanted)
    _check_found(positions, found)
    return [found[position] for position in positions]


def read_source_rows(folder: Path, positions: Sequence[int]) -> pa.Table | None:
    """The same rows with the types and the metadata of a Parquet source.

    Args:
        folder: What ``read_dataset`` wrote.
        positions: As for ``read_rows``.

    Returns:
        A table with one row for each position, in the order asked for; None when the source was not Parquet.

    Raises:
        IndexError: A position that the data set does not have.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _check_found()
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (folder / source_name(0)).exists():
        return None
    pieces: list[pa.Table] = []
    place: dict[int, int] = {}
    for shard, wanted in _by_shard(positions):
        path = folder / source_name(shard)
        table = pq.read_table(path, use_threads=False) if path.exists() else None
        inside = sorted(p for p in wanted if table is not None and p - shard * SHARD_ROWS < table.num_rows)
        if table is not None and inside:
            pieces.append(table.take(pa.array([p - shard * SHARD_ROWS for p in inside], type=pa.int64())))
            place.update({p: offset for offset, p in enumerate(inside, len(place))})
    _check_found(positions, place)
    if not pieces:
        return pq.read_table(folder / source_name(0), use_threads=False).slice(0, 0)
    return pa.concat_tables(pieces).take(pa.array([place[p] for p in positions], type=pa.int64()))


def _by_shard(positions: Sequence[int]) -> list[tuple[int, set[int]]]:
    shards: dict[int, set[int]] = {}
    for position in positions:
        shards.setdefault(position // SHARD_ROWS, set()).add(position)
    return sorted(shards.items())


def _check_found(positions: Iterable[int], found: dict[int, Any]) -> None:
    missing = next((position for position in positions if position not in found), None)
    if missing is not None:
        raise IndexError(f"the data set has no usable row at position {missing}")
