"""States of data sets, uploads, jobs, evaluations, gradient sets and units, and the moves between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, get_args


class DatasetStatus(StrEnum):
    """State of a data set."""

    VALIDATING = "validating"
    READY = "ready"
    INVALID = "invalid"


class UploadStatus(StrEnum):
    """State of a file that is sent in parts; one that is given up is simply gone."""

    OPEN = "open"
    COMPLETED = "completed"


class JobStatus(StrEnum):
    """State of a job. The set is closed; finer steps are in ``phase``, which is open."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class EvaluationStatus(StrEnum):
    """State of an evaluation; finer steps are in ``phase``."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class GradientSetStatus(StrEnum):
    """State of a gradient set."""

    COMPUTING = "computing"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


class UnitState(StrEnum):
    """State of a unit of work; a lease that ran out is claimable as it stands."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"


Sort = Literal["newest", "oldest", "name"]
"""Order of a list; entries of one name, and those without, are newest first."""
LogLevel = Literal["info", "warning", "error"]
LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)
"""Levels of the log of units, the least first."""


class DeliveryState(StrEnum):
    """State of a message to a webhook endpoint."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class UnitKind(StrEnum):
    """What a unit of work does."""

    INGEST = "ingest"
    WARMUP = "warmup"
    PREFILTER = "prefilter"
    GRADIENTS = "gradients"
    SELECT_PART = "select_part"
    SELECT = "select"
    EVALUATION_PLAN = "evaluation_plan"
    EVALUATION_TRAINING = "evaluation_training"
    EVALUATION_REPORT = "evaluation_report"


PREPARING = (UnitKind.WARMUP, UnitKind.PREFILTER)
"""What gradients of a set wait for; shared by every set of a project that needs the same."""
EVALUATION_KINDS = (UnitKind.EVALUATION_PLAN, UnitKind.EVALUATION_TRAINING, UnitKind.EVALUATION_REPORT)


Scope = Literal[
    "datasets:read",
    "datasets:write",
    "jobs:read",
    "jobs:write",
    "files:read",
    "files:write",
    "webhooks:read",
    "webhooks:write",
    "admin",
]
"""What an API key may be allowed to do."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
EVERYDAY: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope != "admin")

ToldType = Literal[
    "dataset.ready",
    "dataset.invalid",
    "job.queued",
    "job.running",
    "job.gradients_ready",
    "job.cancelling",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "job.deleted",
    "schedule.fired",
    "schedule.skipped",
    "schedule.failed",
    "evaluation.queued",
    "evaluation.running",
    "evaluation.succeeded",
    "evaluation.failed",
    "evaluation.cancelled",
]
"""Events that webhook endpoints may be told of."""
EventType = Literal[
    ToldType,
    "dataset.validating",
    "job.warmed_up",
    "job.prefiltered",
    "job.parts_ready",
    "evaluation.planned",
    "evaluation.trained",
    "webhook_endpoint.disabled",
    "unit.failed",
    "artifacts.lost",
    "job.file_damaged",
]
"""Everything that the history tells of."""
TOLD_BY_DEFAULT: tuple[ToldType, ...] = tuple(
    type_
    for type_ in get_args(ToldType)
    if type_ not in {"job.queued", "job.gradients_ready", "job.cancelling", "job.deleted"}
    and not type_.startswith(("evaluation.", "schedule."))
)
PING = "webhook.ping"
"""Type of the message that says nothing."""

ACTIVE = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.CANCELLING)
TERMINAL = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
RETRYABLE = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
"""States in which a job may be tried again."""
EVALUATING = (EvaluationStatus.QUEUED, EvaluationStatus.RUNNING)
"""States that an evaluation can still leave."""

JOB_MOVES: dict[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.QUEUED: (
        JobStatus.RUNNING,
        JobStatus.CANCELLED,
        JobStatus.EXPIRED,
        JobStatus.FAILED,
        JobStatus.SUCCEEDED,
    ),
    JobStatus.RUNNING: (
        JobStatus.CANCELLING,
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
        JobStatus.EXPIRED,
    ),
    JobStatus.CANCELLING: (JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.FAILED),
    JobStatus.SUCCEEDED: (),
    JobStatus.FAILED: (),
    JobStatus.CANCELLED: (),
    JobStatus.EXPIRED: (),
}


def may_move(old: JobStatus, new: JobStatus) -> bool:
    """Whether a job may go from one state to the other."""
    return new in JOB_MOVES[old]
