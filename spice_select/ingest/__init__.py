"""A file of training records becomes shards of usable rows, and a list of the rows that cannot be used.

The file is hostile until proven otherwise: it is only ever opened in a child process of limited memory, time and file
size. What the child leaves behind is the one form in which the rest of the package reads data.

Why a file as a whole is refused (codes are stable; why a single row is, says ``spice_select.records.records``):

    dataset-empty              no bytes, or no records
    dataset-format-unknown     not JSON Lines, a JSON array, CSV or Parquet, plain or gzip
    dataset-truncated          a gzip or Parquet file that ends too early
    dataset-encoding           text that is not UTF-8; names the line
    dataset-invalid-json       not JSON; names the line
    dataset-invalid-csv        against the rules of CSV, such as a quote that is never closed; names the lines
    dataset-duplicate-column   two columns of one name
    dataset-too-large          more bytes, rows, columns or nesting than allowed, or gzip that explodes
    dataset-unreadable         broken, or so hostile that the reading process crashed or ran out of memory or time
    dataset-files-differ       files of one source are of different formats, or Parquet files of different columns
    dataset-form-unknown       no known form fits the columns; lists them, and the mapping that may be meant
    dataset-columns-ambiguous  two readings of the columns are possible; gives the mapping of each
    dataset-column-missing     a column that was named, or that the named form needs, is in no row
    dataset-no-usable-rows     every single row was rejected
"""

from __future__ import annotations

from spice_select.ingest.files import numbered
from spice_select.ingest.manifest import DatasetManifest, IntakeLimits, IntakeOptions, ShardInfo
from spice_select.ingest.process import read_dataset
from spice_select.ingest.stored import SHARD_ROWS, PoolRow, iter_rows, read_rows, read_source_rows

__all__ = [
    "SHARD_ROWS",
    "DatasetManifest",
    "IntakeLimits",
    "IntakeOptions",
    "PoolRow",
    "ShardInfo",
    "iter_rows",
    "numbered",
    "read_dataset",
    "read_rows",
    "read_source_rows",
]
