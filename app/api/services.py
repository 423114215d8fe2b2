"""The services of one API process, made once from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from app.api.rate_limit import RateLimiter
from app.api.sse import EventHub
from app.outbound import Guard, Policy
from app.persistence.session import Database
from app.services.access.keys import KeyService
from app.services.access.secret_box import SecretBox
from app.services.access.sessions import Sessions
from app.services.datasets.service import DatasetService
from app.services.datasets.uploads import UploadService
from app.services.evaluations.service import EvaluationService
from app.services.health import Health
from app.services.jobs.planning import GradientSetService
from app.services.jobs.proxies import Proxies
from app.services.jobs.service import JobService
from app.services.metrics import ProcessMetrics
from app.services.notify.events import EventService
from app.services.notify.webhooks import WebhookService
from app.services.results.files import ResultService
from app.services.results.previews import Previews
from app.services.results.reader import ResultReader
from app.services.storage.data_folder import SharedFolder
from app.services.storage.retention import Retention
from app.settings import Settings
from app.storage import ArtifactStore


@dataclass
class Services:
    """What routes and pages call; ``request.app.state.services``."""

    settings: Settings
    database: Database
    store: ArtifactStore
    keys: KeyService
    folder: SharedFolder
    sessions: Sessions
    limiter: RateLimiter
    health: Health
    metrics: ProcessMetrics
    events: EventService
    hub: EventHub
    webhooks: WebhookService
    datasets: DatasetService
    uploads: UploadService
    gradient_sets: GradientSetService
    jobs: JobService
    evaluations: EvaluationService
    reader: ResultReader
    results: ResultService
    previews: Previews

    @classmethod
    def of(cls, settings: Settings, worker_alive: Callable[[], bool] | None = None) -> Self:
        """The services of a process.

        Args:
            settings: Of the service.
            worker_alive: Whether the embedded worker lives; None where workers are elsewhere.
        """
        database = Database(settings.resolved_database_url, pool_size=settings.database_pool_size)
        store = ArtifactStore(settings.data_dir)
        keys, events, proxies = KeyService(database), EventService(database), Proxies(settings)
        hub = EventHub(
            events,
            pause=settings.poll_seconds,
            most=settings.max_event_streams,
            most_of_project=settings.max_event_streams_of_project,
        )
        jobs = JobService(database, store, proxies, Retention(database, store, settings))
        reader = ResultReader(database, store)
        return cls(
            settings=settings,
            database=database,
            store=store,
            keys=keys,
            folder=SharedFolder(settings, database),
            sessions=Sessions(keys, settings.data_dir),
            limiter=RateLimiter(settings.rate_limit_requests, settings.rate_limit_seconds),
            health=Health(database, worker_alive),
            metrics=ProcessMetrics(database, hub.__len__, settings.data_dir),
            events=events,
            hub=hub,
            webhooks=WebhookService(database, SecretBox(settings), Guard(Policy.of(settings))),
            datasets=DatasetService(database, store, settings),
            uploads=UploadService(database, store, settings),
            gradient_sets=GradientSetService(database),
            jobs=jobs,
            evaluations=EvaluationService(database, proxies),
            reader=reader,
            results=ResultService(jobs, reader, store, settings),
            previews=Previews(database, reader),
        )
