"""Checkpoints of the schedule ``periodic``: two files, written whole or not at all, checked when they are read.

The *progress* is written after every window and names the *weights*, which change only with an optimiser step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spice_select.errors import MismatchedShardError, StoreError
from spice_select.storage.shards import read_some_tensors, read_tensors, write_tensors
from spice_select.training.periodic import Checkpoint, Pick, Progress, WindowReport
from spice_select.version import PERIODIC_FORMAT

PROGRESS = "progress.safetensors"
_EVIDENCE = ("gains", "base_gains", "conflicts", "scores", "margins", "resolutions")


def write_progress(path: Path, progress: Progress, fingerprint: str, weights_sha256: str | None) -> str:
    """Write the progress.

    Args:
        path: Where to; an existing file is replaced.
        progress: What was chosen.
        fingerprint: Of the run.
        weights_sha256: Digest (hex) of the file of weights that goes with it; None before the first step.

    Returns:
        Sha256 (hex) of the file.
    """
    numbers = np.array([pick[2:] for pick in progress.picks], dtype=np.float64).reshape(-1, len(_EVIDENCE))
    tensors = {
        "rows": np.array([pick.row for pick in progress.picks], dtype=np.int64),
        "windows": np.array([pick.window for pick in progress.picks], dtype=np.int64),
        **{name: np.ascontiguousarray(numbers[:, place]) for place, name in enumerate(_EVIDENCE)},
        "reports": np.array(progress.reports, dtype=np.float64).reshape(-1, len(WindowReport._fields)),
        "step_losses": np.array(progress.step_losses, dtype=np.float64),
    }
    about = {
        "format": PERIODIC_FORMAT,
        "header": {"fingerprint": fingerprint, "weights_sha256": weights_sha256},
        "excluded": progress.excluded,
        "early": progress.early,
        "halvings": progress.halvings,
    }
    return write_tensors(path, tensors, about)


def read_progress(path: Path, fingerprint: str, sha256: str | None = None) -> tuple[Progress, str | None]:
    """Read the progress and the digest of the weights that go with it.

    Args:
        path: The file.
        fingerprint: Of the run it must belong to.
        sha256: Digest (hex) the file must have, where it is known.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound file of another run or format.
    """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by read_tensors()
    tensors, about = read_tensors(path, {"rows", "windows", *_EVIDENCE, "reports", "step_losses"}, sha256)
    _check(path, about, fingerprint)
    columns = (tensors[name].tolist() for name in ("rows", "windows", *_EVIDENCE))
    progress = Progress(
        picks=[Pick(*values) for values in zip(*columns, strict=True)],
        reports=[WindowReport(*values) for values in tensors["reports"].tolist()],
        step_losses=tensors["step_losses"].tolist(),
        excluded=about["excluded"],
        early=about["early"],
        halvings=about["halvings"],
    )
    return progress, about["header"]["weights_sha256"]


def write_weights(path: Path, tensors: dict[str, np.ndarray], fingerprint: str) -> str:
    """Write the trained weights and the optimiser's memory.

    Args:
        path: Where to; an existing file is replaced.
        tensors: By name.
        fingerprint: Of the run.

    Returns:
        Sha256 (hex) of the file.
    """
    return write_tensors(path, tensors, {"format": PERIODIC_FORMAT, "header": {"fingerprint": fingerprint}})


def read_weights(path: Path, fingerprint: str, sha256: str) -> dict[str, np.ndarray]:
    """Read the trained weights and the optimiser's memory.

    Args:
        path: The file.
        fingerprint: Of the run it must belong to.
        sha256: Digest (hex) the file must have.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound file of another run or format.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    tensors, about, _ = read_some_tensors(path, sha256)
    _check(path, about, fingerprint)
    return tensors


def _check(path: Path, about: dict[str, Any], fingerprint: str) -> None:
    if about["format"] != PERIODIC_FORMAT or about["header"].get("fingerprint") != fingerprint:
        raise MismatchedShardError(f"{path.name} is a checkpoint of another run or version")


class CheckpointFolder:
    """The latest checkpoint of one run in a folder.

    Args:
        folder: Made when missing.
        fingerprint: Of the run.

    Attributes:
        saved: Whether this object has saved a checkpoint.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self.saved = False
        self._weights: tuple[int, str] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> Checkpoint | None:
        """The latest checkpoint; None where there is none that can be trusted."""
        try:
            progress, sha256 = read_progress(self._folder / PROGRESS, self._fingerprint)
            if sha256 is None:
                return Checkpoint(progress, None)
            steps = len(progress.step_losses)
            weights = read_weights(self._weights_path(steps), self._fingerprint, sha256)
        except StoreError:
            return None
        self._weights = (steps, sha256)
        return Checkpoint(progress, weights)

    def save(self, progress: Progress, weights: Any) -> None:
        """Write a checkpoint; the one before stays whole until this one is.

        Args:
            progress: What was chosen.
            weights: Called for the trained weights when they have changed.
        """
        self.saved = True
        steps = len(progress.step_losses)
        if steps and (self._weights is None or self._weights[0] != steps):
            path = self._weights_path(steps)
            self._weights = (steps, write_weights(path, weights(), self._fingerprint))
        sha256 = None if self._weights is None else self._weights[1]
        write_progress(self._folder / PROGRESS, progress, self._fingerprint, sha256)
        for old in self._folder.glob("weights-*.safetensors"):
            if old != self._weights_path(steps):
                old.unlink()

    def _weights_path(self, steps: int) -> Path:
        return self._folder / f"weights-{steps:08d}.safetensors"
