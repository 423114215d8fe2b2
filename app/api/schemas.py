"""Bodies of requests and answers. Settings models come from the library, so nothing is translated."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.api.estimates import EstimateRead
from app.status import EVERYDAY, DatasetStatus, JobStatus, Scope
from spice_select.config import (
    Budget,
    Conditions,
    GradientConfig,
    Method,
    Model,
    ProxyConfig,
    RunConfig,
    SelectionConfig,
    SelectionOptions,
)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


def _plain(text: str) -> str:
    if "\x00" in text:
        raise ValueError("NUL is not allowed")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
MetadataValue = Annotated[str, Field(max_length=512), AfterValidator(_plain)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
"""Up to 16 key-values of the client's own."""


class JobCreate(Conditions):
    """What to choose, from what, by which settings. Only ``dataset_id`` and ``budget`` are required."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"dataset_id": "ds_01K9RZ3V5X8N3Q2J6T4W7Y0ABC", "budget": {"fraction": 0.1}},
                {
                    "dataset_id": "ds_01K9RZ3V5X8N3Q2J6T4W7Y0ABC",
                    "budget": {"count": 500},
                    "selection": {"conflict_penalty": 0.2, "stop_ratio": 0.5},
                    "gradients": {"loss": "sum"},
                    "metadata": {"team": "search"},
                },
            ]
        },
    )

    dataset_id: Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_printable)]
    """A data set that is ready."""
    budget: Budget
    """How much to choose."""
    method: Method | None = None
    """Short for ``selection.method``."""
    selection: SelectionOptions = SelectionOptions()
    """How to choose."""
    gradients: GradientConfig = GradientConfig()
    """What is measured about each sample."""
    proxy: ProxyConfig | None = None
    """The model whose gradients stand for the samples; the service's default when left out."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    """Short for ``selection.seed`` and ``gradients.seed``."""
    deadline_seconds: Annotated[float, Field(gt=0, le=30 * 86400)] | None = None
    """The job expires this long after it was made; what was chosen by then is kept."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Higher is served first; among equals the project with less running, then age."""
    name: Name | None = None
    """For people."""
    metadata: Metadata = Field(default_factory=dict)
    """For machines."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.method is not None and "method" in self.selection.model_fields_set:
            raise ValueError("give the method once: as method or as selection.method")
        if self.seed is not None and {"seed"} & (self.selection.model_fields_set | self.gradients.model_fields_set):
            raise ValueError("give the seed once: as seed, or as selection.seed and gradients.seed")
        return self

    def selection_config(self) -> SelectionConfig:
        """The selection settings with the short forms filled in."""
        values = self.selection.model_dump()
        if self.method is not None:
            values["method"] = self.method
        if self.seed is not None:
            values["seed"] = self.seed
        return SelectionConfig(budget=self.budget, **values)

    def conditions(self) -> Conditions:
        """What is settled before the choice."""
        return Conditions.model_validate({name: getattr(self, name) for name in Conditions.model_fields})

    def gradient_config(self) -> GradientConfig:
        """The gradient settings with the short forms filled in."""
        return self.gradients if self.seed is None else self.gradients.model_copy(update={"seed": self.seed})


class Finding(BaseModel):
    """One thing that is wrong."""

    model_config = ConfigDict(extra="allow")

    detail: str
    pointer: str | None = None


class ProblemRead(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    request_id: str | None = None
    retryable: bool
    errors: list[Finding] = []


class Digest(BaseModel):
    """Digest of bytes."""

    sha256: str


class ProgressRead(BaseModel):
    """How far the present phase is."""

    phase: str
    completed: int
    total: int
    unit: str
    fraction: float
    rate_per_second: float | None
    eta_seconds: float | None
    updated_at: datetime | None


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


class QueueRead(BaseModel):
    """Where a queued job stands."""

    model_config = ConfigDict(from_attributes=True)

    position: int
    ahead_in_project: int
    reason: str
    estimated_start_at: datetime | None


class JobRead(BaseModel):
    """A job."""

    id: str
    object: Literal["job"] = "job"
    name: str | None
    status: JobStatus
    phase: str | None
    dataset_id: str
    gradient_set_id: str
    target_gradient_set_id: str | None = None
    gradients_reused: bool
    config: RunConfig
    metadata: dict[str, str]
    progress: ProgressRead | None
    priority: int
    estimate: EstimateRead | None
    queue: QueueRead | None
    result: dict[str, Any] | None
    error: ProblemRead | None
    partial: bool
    created_at: datetime
    started_at: datetime | None
    cancelling_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    version: int


class EventRead(BaseModel):
    """One line of history, of a job or of a data set."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    type: str
    job_id: str | None
    dataset_id: str | None
    data: dict[str, Any]
    created_at: datetime


class SampleRead(BaseModel):
    """One pick with the evidence for it; gains, epsilon and score are in nats."""

    model_config = ConfigDict(from_attributes=True)

    rank: int
    source_row: int
    row_sha256: str
    gain: float
    base_gain: float
    epsilon: float
    conflict: float
    score: float
    tokens: int


class FileRead(BaseModel):
    """One file of a result."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    media_type: str
    bytes: int
    sha256: str


class LinkCreate(Model):
    """How long a link opens, and how much of the file."""

    expires_in_seconds: Annotated[float, Field(ge=1, le=366 * 86400)] = 3600.0
    """Cut at the service's longest."""
    k: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Only the first k picks; all of them when left out."""


class LinkRead(BaseModel):
    """A link that opens a file without an API key."""

    object: Literal["link"] = "link"
    url: str
    expires_at: datetime
    name: str
    k: int | None
    bytes: int
    digest: Digest


class ApiKeyRead(BaseModel):
    """An API key; its secret is shown once, when it is made."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeyMade(ApiKeyRead):
    """A new API key with its secret."""

    secret: str


class ApiKeyCreate(Model):
    """What a new API key may do, and until when."""

    name: Name
    scopes: list[Scope] = Field(default_factory=lambda: list(EVERYDAY), min_length=1, max_length=9)
    """``admin`` is not among the scopes given by default."""
    expires_in_days: Annotated[float, Field(gt=0, le=3650)] | None = None


class ApiKeyRotate(Model):
    """How long the old key goes on."""

    overlap_hours: Annotated[float, Field(ge=0, le=720)] = 24.0


class GradientSetRead(BaseModel):
    """A set of gradients that jobs share."""

    id: str
    object: Literal["gradient_set"] = "gradient_set"
    status: str
    fingerprint: str
    dataset_id: str
    config: dict[str, Any]
    num_shards: int
    num_samples: int
    error: ProblemRead | None
    created_at: datetime
    ready_at: datetime | None


class LiveRead(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyRead(BaseModel):
    """Requests can be served; one entry a check."""

    status: Literal["ok"] = "ok"
    checks: dict[str, str]


class VersionRead(BaseModel):
    """Versions of the code, the API, the database schema and the stored gradients."""

    model_config = ConfigDict(extra="allow")

    version: str
    api: str
    schema_: str | None = Field(alias="schema")
    gradient_format: int


Entry = TypeVar("Entry")


class Page(BaseModel, Generic[Entry]):
    """One page of a list; ``next_cursor`` goes into ``after``."""

    data: list[Entry]
    has_more: bool
    next_cursor: str | None
