"""Tables, a file for each noun. Each table of a project has its ``project_id``; queries live in ``repositories``."""

from __future__ import annotations

from app.persistence.tables.artifacts import DoomedArtifact
from app.persistence.tables.base import Base
from app.persistence.tables.data_folder import DataFolder
from app.persistence.tables.datasets import Dataset, RejectedRow
from app.persistence.tables.evaluations import Evaluation
from app.persistence.tables.events import Event
from app.persistence.tables.gradient_sets import GradientSet
from app.persistence.tables.idempotency import IdempotencyKey
from app.persistence.tables.jobs import File, Job, SelectedSample
from app.persistence.tables.lineage import LineageCursor
from app.persistence.tables.projects import ApiKey, Project
from app.persistence.tables.removed import Removed
from app.persistence.tables.units import Unit, UnitCommit
from app.persistence.tables.uploads import PartUpload, UploadedPart
from app.persistence.tables.webhooks import WebhookDelivery, WebhookEndpoint
from app.persistence.tables.workers import Worker

__all__ = [
    "ApiKey",
    "Base",
    "DataFolder",
    "Dataset",
    "DoomedArtifact",
    "Evaluation",
    "Event",
    "File",
    "GradientSet",
    "IdempotencyKey",
    "Job",
    "LineageCursor",
    "PartUpload",
    "Project",
    "RejectedRow",
    "Removed",
    "SelectedSample",
    "Unit",
    "UnitCommit",
    "UploadedPart",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
]
