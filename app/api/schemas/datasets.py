"""A data set, its rows and those that cannot be used."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from app.api.schemas.files import Digest
from app.api.schemas.problems import ProblemRead
from app.api.schemas.progress import ProgressRead
from app.status import DatasetStatus


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
    bytes: int
    digest: Digest
    rows_digest: Digest | None
    num_rows: int | None
    num_usable: int | None
    num_rejected: int | None
    rejected: dict[str, int] | None
    warnings: list[str]
    error: ProblemRead | None
    metadata: dict[str, str]
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
