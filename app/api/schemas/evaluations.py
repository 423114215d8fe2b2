"""An evaluation: what is asked for and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.schemas.estimates import CostRead
from app.api.schemas.fields import Json, Metadata, Name, ProblemRead, ProgressRead, Shown, printable
from app.status import EvaluationStatus
from spice_select.config import ProxyConfig
from spice_select.evaluation.settings import EvaluationConfig

Reference = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(printable)]


class EvaluationCreate(EvaluationConfig):
    """Whose choice to judge, by which rows, how. Only ``job_id`` is required, and rows the job could not choose."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job_id": "job_01M86C6G14Z3K7SPD35H0GWMB9",
                    "holdout_dataset_id": "ds_01K9RZ3V5X8N3Q2J6T4W7Y0ABC",
                    "group": "domain",
                    "seeds": 3,
                    "training": {"epochs": 3.0, "learning_rate": 0.001},
                }
            ]
        }
    )

    job_id: Reference
    """A job that has a result."""
    holdout_dataset_id: Reference | None = None
    """Rows to judge by; when left out, those that the job was told to `exclude`. What is like one of them is trained on
    by no arm."""
    model: ProxyConfig | None = None
    """What is trained; the job's proxy model when left out."""
    group: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(printable)] | None = None
    """Column that names a row's group: for losses by group, the stratified control and the planting of one group."""
    max_length: Annotated[int, Field(ge=8, le=2**20)] | None = None
    """Longest sequence in tokens; longer ones are cut. The job's `gradients.max_length` when left out."""
    name: Name | None = None
    """For people."""
    metadata: Metadata = Field(default_factory=dict)
    """For machines."""

    def settings(self) -> EvaluationConfig:
        """How it is evaluated."""
        return EvaluationConfig.model_validate({name: getattr(self, name) for name in EvaluationConfig.model_fields})


class EvaluationRead(BaseModel):
    """An evaluation. ``result`` holds the verdict, losses in nats per token, intervals, and what each training took."""

    id: str
    object: Literal["evaluation"] = "evaluation"
    name: str | None
    status: EvaluationStatus
    phase: str | None
    job_id: str
    dataset_id: str
    holdout_dataset_id: str | None
    model: Annotated[Json, Shown(ProxyConfig)]
    model_revision: str
    config: Annotated[Json, Shown(EvaluationConfig)]
    """Settings of a newer release that this one cannot read are shown as they were stored."""
    group: str | None
    max_length: int
    metadata: dict[str, str]
    progress: ProgressRead | None
    result: dict[str, Any] | None
    error: ProblemRead | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int


class EvaluationEstimateRead(BaseModel):
    """What an evaluation takes; null where nothing is known, and then ``notes`` say why."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["evaluation_estimate"] = "evaluation_estimate"
    rows: int
    chosen: int
    held_out: int
    arms: list[str]
    trainings: int
    steps: int
    tokens: int | None
    tokens_basis: str | None
    seconds: float | None
    cost: CostRead | None = None
    """Null where the deployment sets no price or no seconds are known."""
    notes: list[str]
