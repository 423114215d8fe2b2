"""What the intake is told, what it may use, and what it says about the data it has read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from spice_select.config import Model
from spice_select.ingest.encodings import ENCODINGS, known_encoding
from spice_select.records.formats import FORMS, ColumnRole, Form, roles_of

Container = Literal["jsonl", "json", "csv", "parquet", "arrow", "xlsx"]
Compression = Literal["none", "gzip", "zstd", "bzip2", "xz", "zip"]


class IntakeOptions(Model):
    """What the owner of the data says about it; whatever is left out is found from the first records."""

    format: Form | None = None
    """Form of the records."""
    columns: dict[ColumnRole, Annotated[str, Field(min_length=1, max_length=256)]] | None = None
    """Role to column, for columns under unusual names; roles left out are looked for."""

    split: Literal["train", "test", "validation", "all"] | None = None
    """Of several files with names of splits: which are read. By default ``train``, where there is one beside others."""

    encoding: Annotated[str, Field(max_length=40)] | None = None
    """Of files of text: the encoding, where it should not be detected; a byte order mark still decides."""

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        if encoding is not None and known_encoding(encoding) is None:
            raise ValueError(f"no encoding that is read; send one of {', '.join(ENCODINGS)}")
        return encoding

    @model_validator(mode="after")
    def _some_form_reads_them(self) -> Self:
        forms = FORMS if self.format is None else (self.format,)
        if self.columns and not any(set(self.columns) <= set(roles_of(form)) for form in forms):
            named = ", ".join(sorted(self.columns))
            which = "no format reads" if self.format is None else f"format {self.format} does not read"
            raise ValueError(f"{which} the roles {named} together")
        return self


class IntakeLimits(Model):
    """How much a file may be, and how much reading it may cost."""

    max_bytes: Annotated[int, Field(ge=1)] = 4 * 2**30
    """Largest file, bytes."""
    max_decoded_bytes: Annotated[int, Field(ge=1)] = 16 * 2**30
    """Most bytes after decompression; for Parquet, of the decoded columns."""
    max_ratio: Annotated[int, Field(ge=2)] = 100
    """Most bytes that one byte of gzip may stand for, once ``ratio_free_bytes`` have come out."""
    ratio_free_bytes: Annotated[int, Field(ge=0)] = 8 * 2**20
    """Decompressed bytes below which the ratio is not looked at."""
    max_rows: Annotated[int, Field(ge=1)] = 5_000_000
    """Most records, usable or not."""
    first_rows: Annotated[int, Field(ge=1)] | None = None
    """Records after which the reading ends as if no more came; None reads all."""
    max_columns: Annotated[int, Field(ge=1)] = 1000
    """Most columns of a CSV or Parquet file; of JSON, the most column names that are listed."""
    max_row_bytes: Annotated[int, Field(ge=1)] = 4 * 2**20
    """Longest record in bytes; longer ones are rejected one by one."""
    max_depth: Annotated[int, Field(ge=1, le=500)] = 64
    """Deepest nesting of a record."""
    memory_bytes: Annotated[int, Field(ge=2**29)] = 3 * 2**30
    """Address space of the reading process."""
    cpu_seconds: Annotated[int, Field(ge=1)] = 3600
    """Processor time of the reading process."""
    wall_seconds: Annotated[float, Field(gt=0)] = 7200.0
    """Time on the clock after which the reading process is killed."""
    max_output_bytes: Annotated[int, Field(ge=1)] = 4 * 2**30
    """Largest single file that the reading process may write."""


class ShardInfo(Model):
    """One file of rows."""

    name: Annotated[str, Field(pattern=r"^(rows|source)-[0-9]{5,}\.parquet$")]
    """File name inside the data set's folder."""
    rows: int
    """Rows in it."""
    bytes: int
    """Its size."""
    sha256: str
    """Digest (hex) of its bytes."""
    messages_sha256: str | None = None
    """Digest (hex) of the conversations in it, in order, whatever their records looked like; of ``rows-*`` alone."""


class DatasetManifest(Model):
    """What a data set folder holds; the last file written, so a folder with a manifest is complete."""

    schema_version: Literal[1] = 1
    container: Container
    compression: Compression
    format: Form
    """Form of the records."""
    columns: dict[ColumnRole, str]
    """Role to column."""
    column_names: list[str]
    """Every column seen, in order of appearance."""
    bytes: int
    """Size of the source."""
    sha256: str
    """Digest (hex) of the source's bytes; of several files, that of their digests in order, a line each."""
    rows_sha256: str
    """Digest (hex) of the usable rows in order, see ``records.rows_sha256``."""
    num_rows: int
    """Records in the source: usable plus rejected."""
    num_usable: int
    num_rejected: int
    rejected: dict[str, int]
    """Reason to number of rows rejected for it; which rows, says ``rejected.jsonl``."""
    warnings: list[str]
    """What a person should know about the data though nothing was refused for it."""
    unused_columns: dict[str, int] = Field(default_factory=dict)
    """Columns that nothing is read from, and in how many rows they hold something."""
    complete: bool = True
    """Whether all records were read."""
    shards: list[ShardInfo]
    """``rows-*.parquet`` in order."""
    source_shards: list[ShardInfo]
    """``source-*.parquet`` in order: the same rows with the types of a Parquet source; empty for other sources."""

    def recorded(self) -> dict[str, Any]:
        """What a service records of a data set beside its shards: all that is not told of a preview alone."""
        return self.model_dump(exclude={"shards", "source_shards", "schema_version", "unused_columns", "complete"})
