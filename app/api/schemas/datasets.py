"""A data set, its rows and those that cannot be used."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.fields import Json, Metadata, Name, ProblemRead, ProgressRead, Shown
from app.api.schemas.files import Digest
from app.status import DatasetStatus
from spice_select.ingest import IntakeOptions
from spice_select.ingest.source_urls import Source


class DatasetCreate(IntakeOptions):
    """A data set that is fetched from where it lies."""

    source: Source
    name: Name | None = None
    metadata: Metadata = Field(default_factory=dict)

    @property
    def requested(self) -> dict[str, Any]:
        """How the client said to read it."""
        return self.model_dump(include=set(IntakeOptions.model_fields), exclude_none=True)


class SourceFileRead(BaseModel):
    """A file of a source as it was when it was fetched."""

    name: str
    bytes: int
    sha256: str
    version: str | None = None


class ResolvedSource(BaseModel):
    """What a source was when it was fetched; until then only the ``revision`` may be known."""

    uri: str | None = None
    revision: str | None = None
    num_files: int | None = None
    files: list[SourceFileRead] = []


class SourceRead(BaseModel):
    """Where a data set is fetched from, with the fields of its type; what may be secret in an address is left out."""

    model_config = ConfigDict(extra="allow")

    type: Literal["file", "hf", "https", "s3"]
    resolved: ResolvedSource | None = None


class DatasetRead(BaseModel):
    """A data set."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str | None
    status: DatasetStatus
    container: str | None
    compression: str | None
    format: str | None
    columns: dict[str, str] | None
    column_names: list[str] | None
    source: Annotated[Json, Shown(SourceRead)] | None
    appended_to: str | None = None
    """The data set that this is a new version of: its rows come first, under the same numbers."""
    bytes: int | None
    digest: Digest | None
    rows_digest: Digest | None
    num_rows: int | None
    num_usable: int | None
    num_rejected: int | None
    rejected: dict[str, int] | None
    warnings: list[str]
    error: ProblemRead | None
    metadata: dict[str, str]
    internal: bool = False
    """Whether the service made it for a job, from its target rows."""
    progress: ProgressRead | None
    created_at: datetime
    ready_at: datetime | None
    version: int


class RejectedRead(BaseModel):
    """A row that cannot be used, and why. ``row`` counts from 0 in the source."""

    row: int
    code: str
    detail: str


class RowRead(BaseModel):
    """A usable row."""

    row: int
    row_sha256: str
    record: Any
    messages: list[dict[str, Any]]
