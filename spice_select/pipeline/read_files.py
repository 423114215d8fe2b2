"""The files beside a pool (targets, protected sets, benchmarks), read and checked before any gradient is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spice_select.config import Objective
from spice_select.errors import DatasetError
from spice_select.ingest import DatasetManifest, IntakeLimits, read_dataset
from spice_select.pipeline.constraints import read_source_rows
from spice_select.pipeline.targets import TargetFile, TargetRows
from spice_select.records.objectives import check_objective


@dataclass(frozen=True)
class ReadFile:
    """A file beside a pool, and its rows.

    Attributes:
        given: Name, file and weight.
        manifest: What was read.
        folder: Where its rows are.
        pointer: Where the settings name it.
    """

    given: TargetFile
    manifest: DatasetManifest
    folder: Path
    pointer: str

    @property
    def rows_shards(self) -> list[Path]:
        """Its ``rows-*.parquet``, in order."""
        return [self.folder / shard.name for shard in self.manifest.shards]

    def rows_of_target(self) -> TargetRows:
        """Its rows as those of a target."""
        sources, members = read_source_rows(self.rows_shards).tolist(), range(self.manifest.num_usable)
        return TargetRows(self.given.name, self.given.weight, self.rows_shards, members, sources)


@dataclass(frozen=True)
class FilesBeside:
    """All files beside a pool.

    Attributes:
        targets: What the model should get better at.
        protect: What must not get worse.
        benchmarks: What nothing of may be trained on.
    """

    targets: Sequence[ReadFile] = ()
    protect: Sequence[ReadFile] = ()
    benchmarks: Sequence[ReadFile] = ()


def read_files(
    targets: Sequence[TargetFile],
    protect: Sequence[TargetFile],
    benchmarks: Sequence[Path],
    *,
    objective: Objective,
    scratch: Path,
    limits: IntakeLimits | None,
    should_stop: Callable[[], bool],
) -> FilesBeside:
    """Read every file beside a pool, and see that the objective is for those that get gradients.

    Args:
        targets: Files that say what the model should get better at.
        protect: Files that say what must not get worse.
        benchmarks: Files that nothing of may be trained on.
        objective: What training would minimise.
        scratch: Folder for their rows.
        limits: Caps on each file.
        should_stop: Asked often.

    Raises:
        ConfigError: The objective is not for the rows of one.
        DatasetError: One cannot be read; the error names it.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by check_objective()

    def read(role: str, number: int, given: TargetFile, what: str) -> ReadFile:
        folder, pointer = scratch / f"{role}-{number}", f"#/{role}"
        try:
            manifest = read_dataset(given.file, folder, None, limits, should_stop=should_stop)
        except DatasetError as error:
            raise DatasetError(
                f"{what}: {error.detail}", code=error.code, pointer=pointer, reasons=error.reasons
            ) from error
        if role != "benchmarks":
            check_objective(objective, manifest.format, manifest.columns, what=what, pointer=pointer)
        return ReadFile(given, manifest, folder, pointer)

    def read_all(role: str, word: str, files: Sequence[TargetFile]) -> list[ReadFile]:
        return [read(role, number, one, f"{word} {one.name!r} ({one.file})") for number, one in enumerate(files)]

    return FilesBeside(
        read_all("targets", "the target", targets),
        read_all("protect", "the protected set", protect),
        read_all("benchmarks", "the benchmark", [TargetFile(source.name, source) for source in benchmarks]),
    )
