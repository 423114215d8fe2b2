"""The services of one API process, made once in ``app.main``."""

from __future__ import annotations

from dataclasses import dataclass

from app.api.rate_limit import RateLimiter
from app.api.sse import EventHub
from app.services.access.keys import KeyService
from app.services.access.project_overview import ProjectOverview
from app.services.access.sessions import Sessions
from app.services.datasets.previews import DatasetPreviews
from app.services.datasets.service import DatasetService
from app.services.datasets.statistics import DatasetStatistics
from app.services.datasets.uploads import UploadService
from app.services.evaluations.service import EvaluationService
from app.services.health import Health
from app.services.jobs.logs import JobLogs
from app.services.jobs.planning import GradientSetService
from app.services.jobs.schedules import ScheduleService
from app.services.jobs.service import JobService
from app.services.metrics import ProcessMetrics
from app.services.notify.events import EventService
from app.services.notify.webhooks import WebhookService
from app.services.results.files import ResultService
from app.services.results.job_pages import JobPages
from app.services.results.previews import Previews
from app.services.results.reader import ResultReader
from app.services.results.row_evidence import RowEvidenceService
from app.services.storage.data_folder import SharedFolder
from app.settings import Settings
from app.storage import ArtifactStore


@dataclass
class Services:
    """What routes and pages call; ``request.app.state.services``."""

    settings: Settings
    store: ArtifactStore
    keys: KeyService
    project_overview: ProjectOverview
    folder: SharedFolder
    sessions: Sessions
    limiter: RateLimiter
    health: Health
    metrics: ProcessMetrics
    events: EventService
    hub: EventHub
    webhooks: WebhookService
    datasets: DatasetService
    dataset_previews: DatasetPreviews
    dataset_statistics: DatasetStatistics
    uploads: UploadService
    gradient_sets: GradientSetService
    jobs: JobService
    job_logs: JobLogs
    schedules: ScheduleService
    evaluations: EvaluationService
    reader: ResultReader
    results: ResultService
    previews: Previews
    job_pages: JobPages
    row_evidence: RowEvidenceService
