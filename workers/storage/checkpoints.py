"""Checkpoints of a choice by windows: files in a folder of the job, named by digest and written down under the lease.

The files come first, then one update that only the holder of the lease can make. A worker that has lost it changes
nothing, and deletes only what it has itself replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import DBAPIError

from app.logs import get_logger
from app.services.units.inputs import SelectInputs
from app.services.units.leases import Claim
from app.services.units.service import UnitService
from app.storage import ArtifactStore
from spice_select.atomic_files import move_whole
from spice_select.errors import Stopped, StoreError
from spice_select.storage.checkpoints import read_progress, read_weights, write_progress, write_weights
from spice_select.training.periodic import Checkpoint, Progress


class StoredCheckpoints:
    """The latest checkpoint of one job.

    Args:
        store: Where the folder is.
        units: Where it is written down which files count.
        claim: The lease.
        inputs: Of the job; says what was written down last.
    """

    def __init__(self, store: ArtifactStore, units: UnitService, claim: Claim, inputs: SelectInputs) -> None:
        self._units, self._claim, self._fingerprint = units, claim, inputs.gradient_set.fingerprint
        self._folder = store.checkpoints(inputs.job.id)
        self._noted: dict[str, Any] = inputs.checkpoint or {}

    def load(self) -> Checkpoint | None:
        """The latest checkpoint; None where there is none that can be trusted."""
        if not self._noted:
            return None
        try:
            path = self._folder / self._noted["progress"]
            progress, weights = read_progress(path, self._fingerprint, self._noted["progress"])
            if weights is None:
                return Checkpoint(progress, None)
            return Checkpoint(progress, read_weights(self._folder / weights, self._fingerprint, weights))
        except StoreError as error:
            get_logger().error("checkpoint_lost", detail=error.detail)
            self._noted = {}
            return None

    def save(self, progress: Progress, weights: Callable[[], Any]) -> None:
        """Write a checkpoint; the one before counts until this one does.

        Args:
            progress: What was chosen.
            weights: Called for the trained weights when they have changed.

        Raises:
            Stopped: The lease is somebody else's.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        steps = len(progress.step_losses)
        sha256 = self._noted.get("weights")
        if steps and self._noted.get("steps") != steps:
            tensors = weights()
            sha256 = self._named(lambda path: write_weights(path, tensors, self._fingerprint))
        name = self._named(lambda path: write_progress(path, progress, self._fingerprint, sha256))
        noted = {"progress": name, "weights": sha256, "steps": steps, "windows": len(progress.reports)}
        try:
            held = self._units.keep(self._claim, noted)
        except DBAPIError as error:
            # The lease decides whether the work goes on; a checkpoint less costs a window at most.
            get_logger().warning("checkpoint_not_noted", error=str(error))
            return
        if not held:
            raise Stopped("the lease of the choice by windows was lost")
        for old in {self._noted.get("progress"), self._noted.get("weights")} - {name, sha256, None}:
            (self._folder / str(old)).unlink(missing_ok=True)
        self._noted = noted

    def _named(self, write: Callable[[Any], str]) -> str:
        draft = self._folder / f"draft-{self._claim.epoch}"
        sha256 = write(draft)
        move_whole(draft, self._folder / sha256)
        return sha256
