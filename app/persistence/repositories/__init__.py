"""Every query of the service, one class per noun; each takes the session of the running transaction."""

from app.persistence.repositories.api_keys import ApiKeys
from app.persistence.repositories.artifacts import Artifacts
from app.persistence.repositories.datasets import Datasets
from app.persistence.repositories.evaluations import Evaluations
from app.persistence.repositories.events import Events
from app.persistence.repositories.gradient_sets import GradientSets
from app.persistence.repositories.idempotency import IdempotencyKeys, KeyHeldError
from app.persistence.repositories.jobs import Jobs
from app.persistence.repositories.listing import ListFilter
from app.persistence.repositories.owned_units import OwnedUnits, owners_that_ended
from app.persistence.repositories.projects import Projects
from app.persistence.repositories.removals import DeletedIds
from app.persistence.repositories.run_history import RunHistory
from app.persistence.repositories.units import Units
from app.persistence.repositories.uploads import Uploads
from app.persistence.repositories.webhooks import WebhookDeliveries, WebhookEndpoints
from app.persistence.repositories.workers import Workers

__all__ = [
    "ApiKeys",
    "Artifacts",
    "Datasets",
    "DeletedIds",
    "Evaluations",
    "Events",
    "GradientSets",
    "IdempotencyKeys",
    "Jobs",
    "KeyHeldError",
    "ListFilter",
    "OwnedUnits",
    "Projects",
    "RunHistory",
    "Units",
    "Uploads",
    "WebhookDeliveries",
    "WebhookEndpoints",
    "Workers",
    "owners_that_ended",
]
