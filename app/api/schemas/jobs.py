"""A job: what is asked for and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.api.schemas.estimates import EstimateRead
from app.api.schemas.fields import (
    Json,
    Metadata,
    MetadataKey,
    MetadataValue,
    Name,
    ProblemRead,
    ProgressRead,
    Shown,
    printable,
)
from app.api.schemas.parent_run import ParentRun
from app.status import JobStatus
from spice_select.config import (
    Budget,
    Conditions,
    GradientConfig,
    Method,
    OfflineSchedule,
    ProxyConfig,
    RunConfig,
    Schedule,
    SelectionConfig,
    SelectionOptions,
)
from spice_select.defaults import with_preset
from spice_select.presets import Preset
from spice_select.results.row_evidence import ExplainedRow
from spice_select.results.selected_sample import SelectedSample


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

    dataset_id: Annotated[str, Field(min_length=1, max_length=40), AfterValidator(printable)]
    """A data set that is ready."""
    budget: Budget
    """How much to choose."""
    preset: Preset | None = None
    """Settings for whatever ``selection``, ``gradients`` and ``screens`` leave unset: ``recommended`` as measured best
    here, ``paper`` as published, null for the settings' own defaults. When left out: ``recommended``, unless another
    method than ``spice``, a surrogate, a scope or the schedule ``periodic`` is asked for, which are taken as they
    are."""
    method: Method | None = None
    """Short for ``selection.method``."""
    selection: SelectionOptions = SelectionOptions()
    """How to choose."""
    gradients: GradientConfig = GradientConfig()
    """What is measured about each sample."""
    schedule: Schedule = OfflineSchedule()
    """``offline``: all gradients first. ``periodic``: window, choice, now and then a step, next window."""
    proxy: ProxyConfig | None = None
    """The model whose gradients stand for the samples; the service's default when left out."""
    extends_job_id: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """Short for ``given_job``: select what adds most to what that job selected, also from an earlier version of the
    data set."""
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
    parent: ParentRun | None = None
    """The run that this job is part of, for OpenLineage."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.method is not None and "method" in self.selection.model_fields_set:
            raise ValueError("give the method once: as method or as selection.method")
        if self.extends_job_id is not None and self.given_job is not None:
            raise ValueError("give the job once: as extends_job_id or as given_job")
        if self.seed is not None and {"seed"} & (self.selection.model_fields_set | self.gradients.model_fields_set):
            raise ValueError("give the seed once: as seed, or as selection.seed and gradients.seed")
        return self

    @property
    def has_targets(self) -> bool:
        """Whether the job says what the model should get better at."""
        return bool(self.targets) or self.target_dataset_id is not None

    def run_config(self, proxy: ProxyConfig) -> RunConfig:
        """The settings of the job, with the short forms and those of the preset filled in.

        Args:
            proxy: The proxy model, resolved.
        """
        short = {} if self.seed is None else {"seed": self.seed}
        selection = {name: getattr(self.selection, name) for name in self.selection.model_fields_set} | short
        if self.method is not None:
            selection["method"] = self.method
        asked = RunConfig(
            proxy=proxy,
            gradients=self.gradients.model_copy(update=short),
            schedule=self.schedule,
            selection=SelectionConfig(budget=self.budget, **selection),
            conditions=Conditions.model_validate(
                {name: getattr(self, name) for name in Conditions.model_fields}
                | ({} if self.extends_job_id is None else {"given_job": self.extends_job_id})
            ),
            **({"preset": self.preset} if "preset" in self.model_fields_set else {}),
        )
        return with_preset(asked, targeted=self.has_targets)


class JobUpdate(BaseModel):
    """What may be changed of a job; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"priority": 10}, {"metadata": {"team": "search", "draft": None}}]},
    )

    name: Name | None = None
    """For people; null takes it away."""
    metadata: Annotated[dict[MetadataKey, MetadataValue | None], Field(max_length=32)] | None = None
    """Pairs to set; null takes a pair away, and in place of the whole object all of them."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Of a job that has not ended."""

    def values(self) -> dict[str, Any]:
        """New name and priority, whichever was sent."""
        return {name: getattr(self, name) for name in ("name", "priority") if name in self.model_fields_set}

    def pairs(self) -> dict[str, str | None] | None:
        """Pairs to set or, with None, to take away; None in place of the mapping takes all away."""
        return self.metadata if "metadata" in self.model_fields_set else {}


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
    config: Annotated[Json, Shown(RunConfig)]
    """Settings of a newer release that this one cannot read are shown as they were stored."""
    metadata: dict[str, str]
    parent: Annotated[Json, Shown(ParentRun)] | None = None
    retry_of: str | None = None
    """The job that this one tries again."""
    progress: ProgressRead | None
    priority: int
    estimate: Annotated[Json, Shown(EstimateRead)] | None
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


class SampleRead(SelectedSample):
    """One pick with the evidence for it; gains, epsilon and score are in nats."""


class ExplainedRowRead(ExplainedRow):
    """One row of the pool, selected or not, with the evidence for that; gains and score are in nats."""
