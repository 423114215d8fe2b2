"""Files of rows to choose from and rows to judge by, made before anything is chosen."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spice_select.errors import ConfigError
from spice_select.evaluation.dataset import groups_of, text_of
from spice_select.evaluation.hold_out import split
from spice_select.ingest import IntakeOptions, PoolRow, iter_rows, read_dataset
from spice_select.pipeline.targets import TargetFile
from spice_select.records.near_duplicates import near_duplicates_of

POOL, HELD_OUT, SELECT = "pool.jsonl", "held_out.jsonl", "select.jsonl"
"""Rows to choose from, rows to judge by, and the half of a target that is selected with."""
LEAST_TARGET_ROWS = 4
"""Rows of a target that selects and judges: two of each."""


@dataclass(frozen=True)
class SplitFiles:
    """A file cut in two.

    Attributes:
        pool: Rows to choose from and to train on.
        held_out: Rows to judge by.
        pool_rows: Rows in the first.
        held_out_rows: Rows in the second.
        clusters: Clusters of near-duplicates that were kept together.
        clustered: Rows in them.
    """

    pool: Path
    held_out: Path
    pool_rows: int
    held_out_rows: int
    clusters: int
    clustered: int


def hold_out_file(
    source: Path,
    out: Path,
    *,
    share: float = 0.1,
    group: str | None = None,
    options: IntakeOptions | None = None,
    seed: int = 0,
) -> SplitFiles:
    """Cut a file into rows to choose from and rows to judge by, near-duplicates together.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        out: Folder for the two files of JSON Lines.
        share: Share of the usable rows to hold out, in (0, 1).
        group: Column whose groups keep their shares in both.
        options: Record form and columns, when they should not be found.
        seed: Seed of the draw.
    """
    rows = read_usable(source, options)
    cut = split(
        [text_of(row) for row in rows],
        count=max(2, round(share * len(rows))),
        groups=groups_of(rows, group),
        seed=seed,
    )
    for name, places in ((POOL, cut.pool), (HELD_OUT, cut.held_out)):
        _write(out / name, [rows[place] for place in places])
    return SplitFiles(out / POOL, out / HELD_OUT, len(cut.pool), len(cut.held_out), cut.clusters, cut.clustered)


def pool_beside(
    source: Path,
    judges: Path | Mapping[str, Path],
    out: Path,
    *,
    options: IntakeOptions | None = None,
    seed: int = 0,
) -> Path:
    """A file without the rows that are near-duplicates of rows to judge by; returns the new file.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        judges: File of held-out rows, or one for each task.
        out: Folder of the evaluation.
        options: Record form and columns of the source and of a single file of held-out rows, when they should not be
            found.
        seed: Seed of the hash functions.
    """
    rows = read_usable(source, options)
    judging = [text_of(row) for _, row in read_judges(judges, options)]
    taken = set(near_duplicates_of([text_of(row) for row in rows], judging, seed=seed))
    _write(out / POOL, [row for place, row in enumerate(rows) if place not in taken])
    return out / POOL


def halves_of(target: TargetFile, out: Path, *, seed: int = 0) -> tuple[TargetFile, Path]:
    """A target whose rows select and judge, each row one of the two: the half to select with, and the other half.

    Args:
        target: Its file has four usable rows at least.
        out: Folder of the evaluation.
        seed: Seed of the draw.

    Raises:
        ConfigError: It has fewer.
    """
    rows = read_usable(target.file)
    if len(rows) < LEAST_TARGET_ROWS:
        raise ConfigError(
            f"target {target.name!r} has {len(rows)} usable rows, too few to select with one half and judge by the "
            "other; give held-out rows of their own",
            pointer="#/targets",
        )
    cut = split([text_of(row) for row in rows], count=len(rows) // 2, seed=seed)
    folder = out / "targets" / hashlib.sha256(target.name.encode()).hexdigest()[:8]
    _write(folder / SELECT, [rows[place] for place in cut.pool])
    _write(folder / HELD_OUT, [rows[place] for place in cut.held_out])
    return replace(target, file=folder / SELECT), folder / HELD_OUT


def read_judges(held_out: Path | Mapping[str, Path], options: IntakeOptions | None) -> list[tuple[str, PoolRow]]:
    """Rows to judge by, each with its task; of a single file the task is empty.

    Args:
        held_out: A file, or one for each task.
        options: Record form and columns of a single file, when they should not be found.
    """
    if isinstance(held_out, Path):
        return [("", row) for row in read_usable(held_out, options)]
    return [(task, row) for task, file in held_out.items() for row in read_usable(file)]


def read_usable(source: Path, options: IntakeOptions | None = None) -> list[PoolRow]:
    """The usable rows of a file, in order.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        options: Record form and columns, when they should not be found.
    """
    with tempfile.TemporaryDirectory(prefix="spice-evaluate-") as scratch:
        manifest = read_dataset(source, Path(scratch), options)
        return [row for shard in manifest.shards for row in iter_rows(Path(scratch) / shard.name)]


def _write(path: Path, rows: Sequence[PoolRow]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.record + "\n" for row in rows), encoding="utf-8", newline="\n")
