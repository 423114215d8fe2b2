"""Tables. Each table of a project has its ``project_id``; queries live in ``repositories``."""

from __future__ import annotations

from app.persistence.tables.core import (
    ApiKey,
    Base,
    DataFolder,
    Dataset,
    DeletedId,
    EndedSession,
    Evaluation,
    GradientSet,
    IdempotencyKey,
    Job,
    Project,
    RejectedRow,
    SelectedSample,
    Unit,
    UnitCommit,
    UnitLogLine,
    Worker,
)
from app.persistence.tables.events import Event
from app.persistence.tables.files import File, ObsoleteArtifact, PartUpload, UploadedPart
from app.persistence.tables.schedules import Schedule
from app.persistence.tables.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "Base",
    "DataFolder",
    "Dataset",
    "DeletedId",
    "EndedSession",
    "Evaluation",
    "Event",
    "File",
    "GradientSet",
    "IdempotencyKey",
    "Job",
    "ObsoleteArtifact",
    "PartUpload",
    "Project",
    "RejectedRow",
    "Schedule",
    "SelectedSample",
    "Unit",
    "UnitCommit",
    "UnitLogLine",
    "UploadedPart",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
]
