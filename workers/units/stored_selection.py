"""The inputs of a selection among the artifacts: the worker's side of the library's ``SelectionStorage``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ServiceError
from app.services.units.inputs import SelectInputs, UnitArtifact
from app.services.units.leases import Claim
from spice_select.config import PartitionedScope
from spice_select.errors import CorruptShardError, EmptyPoolError, MismatchedShardError
from spice_select.models.memory import host_bytes
from spice_select.pipeline.pool import Pool, open_pool, pool_within
from spice_select.pipeline.screens import BenchmarkRows
from spice_select.pipeline.targets import TargetSet
from spice_select.results.run_metadata import TargetFacts
from spice_select.selection.partitions import Part
from spice_select.storage.partition_files import read_part
from workers.heartbeat import Heartbeat
from workers.storage.errors import ArtifactsLostError
from workers.storage.inputs import Load, stored_pool
from workers.storage.target_rows import target_rows
from workers.units.resources import Resources


class StoredSelection:
    """What a unit selects from.

    Args:
        resources: For the stores.
        claim: The lease.
        inputs: Names everything.
        heartbeat: Told the progress; says when to stop.
    """

    def __init__(self, resources: Resources, claim: Claim, inputs: SelectInputs, heartbeat: Heartbeat) -> None:
        self._resources, self._store, self._project_id = resources, resources.store, claim.project_id
        self._inputs, self._heartbeat = inputs, heartbeat

    @cached_property
    def rows_shards(self) -> list[Path]:
        """The usable rows of the data set, checked."""
        return self._intact(self._inputs.dataset.shards)

    @cached_property
    def source_shards(self) -> list[Path]:
        """The rows of the data set as they came, checked."""
        return self._intact(self._inputs.dataset.source_shards)

    def pool(self) -> Pool:
        """The candidates. After a first round in parts their gradients stay on the disk: only the winners are read.

        Raises:
            ArtifactsLostError: Gradient shards have to be made again.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _load()
        return self.pool_on_disk() if self._inputs.parts else self._load(self._pool_of_job, self._within_memory())

    def pool_on_disk(self) -> Pool:
        """The candidates, their gradients left on the disk.

        Raises:
            ArtifactsLostError: Gradient shards have to be made again.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _load()
        return self._load(self._pool_of_job, open_pool)

    def base_rows(self) -> Sequence[int]:
        """Rows of the source in the base selections."""
        return [row for base in self._inputs.bases for row in base.source_rows]

    def targets(self) -> list[TargetSet]:
        """The targets of the job with the gradients of their rows.

        Raises:
            EmptyPoolError: None of its samples has one.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _sets()
        one = self._inputs.config.conditions.target_dataset_id is not None
        return self._sets(0, "#/target_dataset_id" if one else "#/targets")

    def protected(self) -> list[TargetSet]:
        """The protected sets of the job with the gradients of their rows.

        Raises:
            EmptyPoolError: None of its samples has one.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _sets()
        return self._sets(1, "#/protect")

    def _sets(self, role: int, pointer: str) -> list[TargetSet]:
        """Targets (role 0) or protected sets (role 1), each with the gradients of its rows.

        Raises:
            EmptyPoolError: One of them has none.
        """
        target, conditions = self._inputs.target, self._inputs.config.conditions
        if target is None:
            return []
        rows_shards = self._intact(target.dataset.shards)
        wanted = target_rows(conditions, rows_shards)[role]
        if not wanted:
            return []
        try:
            pool = self._load((target.shards, target.fingerprint), self._within_memory())
        except EmptyPoolError as error:
            raise EmptyPoolError(f"target data set: {error.detail}", pointer=pointer, reasons=error.reasons) from error
        sets = []
        for number, one in enumerate(wanted):
            sources = dict(zip(one.members, one.source_rows, strict=True))
            rows = np.flatnonzero([position in sources for position in pool.positions.tolist()])
            if len(rows) == 0:
                raise EmptyPoolError(f"no row of {one.name!r} has a gradient", pointer=f"{pointer}/{number}")
            facts = TargetFacts(
                name=one.name,
                weight=one.weight,
                rows=len(rows),
                uri=f"spice:dataset/{target.dataset.id}",
                sha256=target.dataset.sha256,
                rows_sha256=target.dataset.rows_sha256 or "",
                gradient_fingerprint=target.fingerprint,
            )
            members = None if conditions.target_dataset_id is not None else one.members
            positions = pool.positions[rows].tolist()
            source_rows = [sources[position] for position in positions]
            sets.append(TargetSet(facts, pool.features[rows], rows_shards, positions, source_rows, members))
        return sets

    def benchmarks(self) -> list[BenchmarkRows]:
        """Data sets that nothing of may be trained on."""
        return [
            BenchmarkRows(
                dataset.name or dataset.id, f"spice:dataset/{dataset.id}", dataset.sha256, self._intact(dataset.shards)
            )
            for dataset in self._inputs.benchmarks
        ]

    def parts(self, size: int) -> list[Part] | None:
        """What was selected from each part of a pool of this size; None for a pool that is not cut.

        Raises:
            ArtifactsLostError: Selections are missing or rotten, or were made by another version; names their units.
        """
        inputs = self._inputs
        if not inputs.parts:
            return None
        assert isinstance(inputs.config.selection.scope, PartitionedScope)
        parts: list[Part] = []
        lost: list[str] = []
        for number, artifact in enumerate(inputs.parts[: min(inputs.config.selection.scope.parts, size)]):
            try:
                path = self._store.path(self._project_id, artifact.sha256)
                parts.append(read_part(path, artifact.sha256, part_header(inputs, number)))
            except (ServiceError, CorruptShardError, MismatchedShardError):
                lost.append(artifact.unit_id)
        if lost:
            raise ArtifactsLostError(
                lost, f"the selections of {len(lost)} of {len(inputs.parts)} parts are missing or changed"
            )
        return parts

    @property
    def _pool_of_job(self) -> tuple[list[UnitArtifact], str]:
        return self._inputs.shards, self._inputs.gradient_set.fingerprint

    def _within_memory(self) -> Load:
        return partial(pool_within, memory_bytes=self._resources.settings.worker_memory_bytes or host_bytes())

    def _load(self, gradients: tuple[list[UnitArtifact], str], load: Load) -> Pool:
        shards, fingerprint = gradients
        prefilter = self._inputs.prefilter if shards is self._inputs.shards else None
        return stored_pool(
            self._resources.shards,
            self._project_id,
            shards,
            fingerprint,
            prepared={"warmup": self._inputs.warmup, "prefilter": prefilter},
            load=load,
            on_progress=self._heartbeat.advance,
            should_stop=self._heartbeat.should_stop,
        )

    def _intact(self, shards: Sequence[dict[str, Any]] | None) -> list[Path]:
        return [self._store.intact(self._project_id, shard["sha256"]) for shard in shards or []]


def part_header(inputs: SelectInputs, number: int) -> dict[str, Any]:
    """What the selection from a part says about itself: everything that decides it.

    Args:
        inputs: Of the job.
        number: Of the part.
    """
    return {
        "fingerprint": inputs.gradient_set.fingerprint,
        "selection": inputs.config.selection.digest(),
        "part": number,
    }
