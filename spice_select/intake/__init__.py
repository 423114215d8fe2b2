"""A file of training records becomes shards of usable rows, and a list of the rows that cannot be used.

The file is hostile until proven otherwise: it is only ever opened in a child process of limited memory, time and file
size. What the child leaves behind is the one form in which the rest of the package reads data.
"""

from __future__ import annotations

from spice_select.intake.manifest import DatasetManifest, IntakeLimits, IntakeOptions, ShardInfo
from spice_select.intake.process import read_dataset
from spice_select.intake.stored import SHARD_ROWS, PoolRow, iter_rows, read_rows, read_source_rows

__all__ = [
    "SHARD_ROWS",
    "DatasetManifest",
    "IntakeLimits",
    "IntakeOptions",
    "PoolRow",
    "ShardInfo",
    "iter_rows",
    "read_dataset",
    "read_rows",
    "read_source_rows",
]
