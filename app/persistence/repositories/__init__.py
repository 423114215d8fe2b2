"""Every query of the service, one class per noun; each takes the session of the running transaction."""

from app.persistence.repositories.access import (
    ApiKeys,
    DeletedIds,
    EndedSessions,
    IdempotencyKeys,
    KeyHeldError,
    Projects,
)
from app.persistence.repositories.artifacts import Artifacts, Uploads
from app.persistence.repositories.datasets import Datasets, GradientSets
from app.persistence.repositories.evaluations import Evaluations
from app.persistence.repositories.history import Events, RunHistory, Workers
from app.persistence.repositories.holdings import holdings
from app.persistence.repositories.job_units import JobUnits, units_of_jobs
from app.persistence.repositories.jobs import Jobs
from app.persistence.repositories.rows import ListFilter
from app.persistence.repositories.schedules import Schedules
from app.persistence.repositories.scheduling import OwnedUnits, owners_that_ended
from app.persistence.repositories.unit_logs import UnitLogs
from app.persistence.repositories.units import Units
from app.persistence.repositories.webhooks import WebhookDeliveries, WebhookEndpoints

__all__ = [
    "ApiKeys",
    "Artifacts",
    "Datasets",
    "DeletedIds",
    "EndedSessions",
    "Evaluations",
    "Events",
    "GradientSets",
    "IdempotencyKeys",
    "JobUnits",
    "Jobs",
    "KeyHeldError",
    "ListFilter",
    "OwnedUnits",
    "Projects",
    "RunHistory",
    "Schedules",
    "UnitLogs",
    "Units",
    "Uploads",
    "WebhookDeliveries",
    "WebhookEndpoints",
    "Workers",
    "holdings",
    "owners_that_ended",
    "units_of_jobs",
]
