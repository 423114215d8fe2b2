"""What was chosen from a part of a pool, as a file: checked when read, and the same choice is always the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spice_select.errors import MismatchedShardError
from spice_select.selection.partitions import Part
from spice_select.selection.scoring import Proposal
from spice_select.storage.shards import read_tensors, write_tensors

PART_FORMAT = 2
"""Raised whenever a part's choice is written or made differently."""
_EVIDENCE = {
    "gains": "gain",
    "conflicts": "conflict",
    "scores": "score",
    "margins": "margin",
    "resolutions": "resolution",
}
"""Name of each column, and of the attribute of a pick that it holds."""


def write_part(path: Path, part: Part, header: dict[str, Any]) -> str:
    """Write a part's choice; the file appears under its name only when all of it is on the disk.

    Args:
        path: Where to; an existing file is replaced.
        part: What was chosen.
        header: What it was chosen from and how: equal for equal choices, different for different ones.

    Returns:
        Sha256 (hex) of the file.
    """
    tensors = {"rows": np.array([pick.row for pick in part.picks], dtype=np.int64)}
    for column, name in _EVIDENCE.items():
        tensors[column] = np.array([getattr(pick, name) for pick in part.picks], dtype=np.float64)
    about = {"format": PART_FORMAT, "header": header, "stop_reason": part.stop_reason, "refreshed": part.refreshed}
    return write_tensors(path, tensors, about)


def read_part(path: Path, sha256: str, header: dict[str, Any]) -> Part:
    """Read a part's choice and check every byte of it.

    Args:
        path: The file.
        sha256: Digest (hex) the file must have.
        header: What it must say it was chosen from.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound file of another part, run or format.
    """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by read_tensors()
    tensors, about = read_tensors(path, {"rows", *_EVIDENCE}, sha256)
    if about["format"] != PART_FORMAT or about["header"] != header:
        raise MismatchedShardError(f"{path.name} holds the choice from another part, run or version")
    columns = {name: tensors[column].tolist() for column, name in _EVIDENCE.items()}
    picks = [
        Proposal(row, place=0, **{name: values[number] for name, values in columns.items()})
        for number, row in enumerate(tensors["rows"].tolist())
    ]
    return Part(picks, about["stop_reason"], about["refreshed"])
