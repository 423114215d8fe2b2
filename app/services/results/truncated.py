"""Files cut down to the first k picks: made once, streamed, kept below a bound.

A cut file lies under the digests of what it was cut from and of itself, so that its ETag costs no reading:
``prefixes/<project>/<sha256 of the whole>-<k>/<sha256 of the cut>``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.storage import ArtifactStore, file_sha256

CUTTABLE = ("selected.jsonl", "selected.parquet", "ranking.parquet", "trace.parquet")
"""Files that have one row per pick, in pick order."""
ROWS_AT_A_TIME = 1024
GRACE_SECONDS = 60.0
"""A file that was used more recently is never dropped: an answer may be about to open it."""


class TruncatedResults:
    """Cut files of one data folder.

    Args:
        store: For scratch folders, and the folder that this one lies beside.
        limit: Most bytes that are kept.
    """

    def __init__(self, store: ArtifactStore, limit: int) -> None:
        self._store = store
        self._limit = limit

    def cut(self, project_id: str, source: Path, sha256: str, k: int, *, parquet: bool) -> Path:
        """A file with the first k rows of another; its name is its sha256.

        Args:
            project_id: Owner.
            source: The whole file, its bytes checked against its digest.
            sha256: Digest (hex) of the whole file.
            k: Rows to keep, at most as many as there are.
            parquet: Whether it is Parquet and not lines of text.
        """
        return self.made(project_id, f"{sha256}-{k}", partial(_cut_parquet if parquet else _cut_lines, source, k=k))

    def made(self, project_id: str, key: str, write: Callable[[Path], object]) -> Path:
        """A file that follows from another, made when it is first asked for; its name is its sha256.

        Args:
            project_id: Owner.
            key: Digest (hex) of the whole file that it is made from, ``-``, and what it is; it goes with that file.
            write: Writes it.
        """
        home = self._store.cuts(project_id) / key
        with suppress(FileNotFoundError):
            for cut in home.iterdir():
                if not self._store.verified(cut, cut.name):
                    cut.unlink(missing_ok=True)  # made again below, from a whole file that the caller has checked
                    continue
                os.utime(cut)
                return cut
        with self._store.scratch() as folder:
            draft = folder / "cut"
            write(draft)
            target = home / file_sha256(draft)
            home.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
        self._prune()
        return target

    def _prune(self) -> None:
        """Drop the files that were used longest ago."""
        files = []
        for path in self._store.all_cuts.glob("*/*/*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                files.append((state.st_mtime, state.st_size, path))
        kept = 0
        for used, size, path in sorted(files, reverse=True):
            kept += size
            if kept > self._limit and used < time.time() - GRACE_SECONDS:
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    path.parent.rmdir()


def _cut_lines(source: Path, target: Path, k: int) -> None:
    with source.open("rb") as lines, target.open("wb") as sink:
        for _, line in zip(range(k), lines, strict=False):
            sink.write(line)


def _cut_parquet(source: Path, target: Path, k: int) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as whole, pq.ParquetWriter(target, whole.schema_arrow, compression="zstd") as sink:
        left = k
        for batch in whole.iter_batches(batch_size=ROWS_AT_A_TIME):
            if not left:
                break
            part = batch.slice(0, left)
            sink.write_batch(part)
            left -= len(part)
