"""A selection on this machine, by either schedule: where its inputs are, and what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spice_select.config import RunConfig
from spice_select.errors import ConfigError, Stopped
from spice_select.fingerprint import periodic_fingerprint
from spice_select.models.memory import host_bytes
from spice_select.pipeline.constraints import read_base_selections
from spice_select.pipeline.gradients import LocalGradients
from spice_select.pipeline.periodic import select_by_windows
from spice_select.pipeline.pool import Pool, pool_within
from spice_select.pipeline.progress import Clock
from spice_select.pipeline.read_files import FilesBeside, ReadFile
from spice_select.pipeline.screens import BenchmarkRows
from spice_select.pipeline.select import select_from_pool
from spice_select.pipeline.targets import TargetSet
from spice_select.results.outcome import Choice
from spice_select.results.run_metadata import BaseSelectionFacts, DatasetFacts, ProxyFacts, WarmupFacts
from spice_select.selection.partitions import Part
from spice_select.selection.result import StopRequest
from spice_select.storage.cache import Cache
from spice_select.storage.checkpoints import CheckpointFolder


@dataclass
class LocalRows:
    """The rows of a data set in a folder.

    Attributes:
        rows_shards: The ``rows-*.parquet`` of the ingest, in order.
        source_shards: The ``source-*.parquet`` of the ingest, in order.
    """

    rows_shards: Sequence[Path]
    source_shards: Sequence[Path]


@dataclass(frozen=True)
class LocalSelection:
    """What was selected on this machine, and from what.

    Attributes:
        choice: What was selected.
        proxy: The proxy model.
        fingerprint: Name of the gradients, or of the course of a periodic run.
        reused: Whether nothing had to be measured.
        warmup: The warm-up, if any.
        bases: The base selections.
    """

    choice: Choice
    proxy: ProxyFacts
    fingerprint: str
    reused: bool
    warmup: WarmupFacts | None
    bases: Sequence[BaseSelectionFacts] = ()


class _LocalStorage(LocalRows):
    """The inputs of an offline selection in a cache of this machine."""

    def __init__(
        self,
        rows: LocalRows,
        gradients: LocalGradients,
        shards: list[Path],
        *,
        base_rows: Sequence[int],
        beside: FilesBeside,
    ) -> None:
        super().__init__(rows.rows_shards, rows.source_shards)
        self._gradients, self._shards = gradients, shards
        self._base_rows, self._beside = base_rows, beside

    def pool(self) -> Pool:
        return pool_within([(path, None) for path in self._shards], self._gradients.prints, host_bytes())

    def base_rows(self) -> Sequence[int]:
        return self._base_rows

    def targets(self) -> list[TargetSet]:
        return [self._gradients.beside(one) for one in self._beside.targets]

    def protected(self) -> list[TargetSet]:
        return [self._gradients.beside(one) for one in self._beside.protect]

    def benchmarks(self) -> list[BenchmarkRows]:
        return benchmark_rows(self._beside.benchmarks)

    def parts(self, _size: int) -> list[Part] | None:
        return None


def benchmark_rows(files: Sequence[ReadFile]) -> list[BenchmarkRows]:
    """What nothing of may be trained on, by its files.

    Args:
        files: The files as they were read.
    """
    found = []
    for one in files:
        name = one.given.name
        facts = DatasetFacts.from_manifest(one.manifest, name=name, reference=name)
        found.append(BenchmarkRows(name, facts.uri, facts.sha256, one.rows_shards))
    return found


def select_locally(
    config: RunConfig,
    rows: LocalRows,
    gradients: LocalGradients,
    cache: Cache,
    clock: Clock,
    asked: StopRequest,
    *,
    bases: Sequence[Path],
    beside: FilesBeside,
) -> LocalSelection:
    """Compute what is missing, then select by the schedule of the settings.

    Args:
        config: Settings of the run.
        rows: The rows.
        gradients: The proxy model, its warm-up and the gradients.
        cache: Where checkpoints are kept.
        clock: Told about every step.
        asked: Whether to stop, and why.
        bases: Folders of earlier results that this selection adds to.
        beside: Targets, protected sets and benchmarks.

    Raises:
        ConfigError: A periodic run whose cache is no folder.
        Stopped: Before the first window of a periodic run was done.
    """
    shards = list(rows.rows_shards)
    if config.schedule.kind == "periodic":
        if not cache.is_local:  # checkpoints replace each other, which only a folder can do
            raise ConfigError(
                "the schedule periodic keeps checkpoints and needs a folder as its cache", pointer="#/cache"
            )
        tuned = gradients.tunable(shards)
        proxy = ProxyFacts.of(tuned)
        fingerprint = periodic_fingerprint(pool=gradients.pool_sha256, proxy_revision=proxy.revision, config=config)
        checkpoints = CheckpointFolder(cache.folder / "periodic" / fingerprint, fingerprint)
        choice = select_by_windows(shards, tuned, config, checkpoints=checkpoints, report=clock, should_stop=asked)
        if choice.schedule is None or not choice.schedule["windows_done"]:
            raise Stopped("stopped before the first window was done")
        return LocalSelection(choice, proxy, fingerprint, not checkpoints.saved, gradients.warmup)
    fingerprint = gradients.fingerprint(gradients.revision)
    base_rows, base_facts = read_base_selections(bases, fingerprint)
    gradients.keep_best(shards, beside.targets, beside.protect, base_rows)
    paths, proxy = gradients.fill(shards)
    storage = _LocalStorage(rows, gradients, paths, base_rows=base_rows, beside=beside)
    choice = select_from_pool(config, storage, clock, asked)
    return LocalSelection(choice, proxy, fingerprint, gradients.reused, gradients.warmup, bases=base_facts)
