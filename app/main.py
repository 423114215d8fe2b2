"""``create_app()``: the HTTP API, put together from settings."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app import logs, tracing
from app.api import openapi, problems
from app.api.middleware import RequestMiddleware
from app.api.rate_limit import make_limiter
from app.api.routes import (
    api_keys,
    dataset_previews,
    datasets,
    estimates,
    evaluations,
    events,
    files,
    gradient_sets,
    health,
    jobs,
    metrics,
    provenance,
    quota,
    schedules,
    signing_keys,
    uploads,
    webhooks,
)
from app.api.schemas.fields import ProblemRead
from app.api.services import Services
from app.api.sse import EventHub, ends_on_signals
from app.outbound import Guard, Policy
from app.persistence.session import Database
from app.services.access.keys import KeyService
from app.services.access.project_overview import ProjectOverview
from app.services.access.secret_box import SecretBox
from app.services.access.sessions import Sessions
from app.services.datasets.previews import DatasetPreviews
from app.services.datasets.service import DatasetService
from app.services.datasets.statistics import DatasetStatistics
from app.services.datasets.uploads import UploadService
from app.services.evaluations.service import EvaluationService
from app.services.health import Health
from app.services.jobs.logs import JobLogs
from app.services.jobs.planning import GradientSetService
from app.services.jobs.proxies import Proxies
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
from app.services.storage.permissions import close_folder, close_in_background
from app.services.storage.retention import Retention
from app.settings import Settings
from app.storage import ArtifactStore
from app.ui import (
    api_keys_page,
    dataset_page,
    dataset_preview,
    evaluation_form,
    forms,
    job_actions,
    login,
    pages,
    project_page,
    reference,
    row_page,
    statics,
    upload_parts,
    webhooks_page,
)
from app.ui import jobs as job_lists
from spice_select.version import __version__

DESCRIPTION = """
Choose the part of an instruction-tuning data set that is worth training on (SPICE, arXiv 2601.23155).

Send a data set, queue a job with a budget, poll, fetch the chosen rows with the evidence for each choice.
Every error is `application/problem+json`.
"""


def create_app(settings: Settings | None = None, *, worker_alive: Callable[[], bool] | None = None) -> FastAPI:
    """The application.

    Args:
        settings: Read from the environment when left out.
        worker_alive: Whether the embedded worker lives; None where workers are elsewhere.
    """
    if settings is None:  # this process is nothing but the API
        settings = Settings()
        close_folder(settings)
    logs.configure(settings.log_level, settings.log_format)
    tracing.configure(settings.tracing, "api")
    database = Database(settings.resolved_database_url, pool_size=settings.database_pool_size)
    services = make_services(database, settings, worker_alive)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        try:
            services.keys.refuse_unlocked(settings.auth)
            services.folder.take()
            close_in_background(settings)
            with ends_on_signals(services.hub.close):
                yield
        finally:
            services.limiter.close()
            database.dispose()

    app = FastAPI(
        title="SPICE Select",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its own page would load scripts from another host; app/ui/reference.py is ours
        redoc_url=None,
        lifespan=lifespan,
        # Spans and measures are ours (app/tracing.py); the framework's own would copy what exceptions say elsewhere.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
        generate_unique_id_function=lambda route: route.name,
        responses={"default": {"model": ProblemRead, "description": "A problem (RFC 9457)"}},
    )
    app.state.services = services
    app.state.error_page = pages.error_page
    # Every route of /v1 takes ``deps.Project``, which asks for the key; tests/service/test_auth.py walks the contract.
    for module in (
        uploads,
        dataset_previews,
        datasets,
        jobs,
        schedules,
        estimates,
        evaluations,
        files,
        provenance,
        signing_keys,
        quota,
        events,
        gradient_sets,
        api_keys,
        health,
        metrics,
        webhooks,
    ):
        app.include_router(module.router)
    of_jobs = (job_lists, row_page, forms, job_actions, evaluation_form)
    of_projects = (project_page, api_keys_page, webhooks_page, login)
    for part in (upload_parts, dataset_preview, dataset_page, *of_jobs, *of_projects, statics, reference):
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(
        RequestMiddleware, max_body_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes
    )
    app.openapi = lambda: openapi.openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def make_services(database: Database, settings: Settings, worker_alive: Callable[[], bool] | None) -> Services:
    """The services of a process.

    Args:
        database: Where the records are.
        settings: Of the service.
        worker_alive: Whether the embedded worker lives; None where workers are elsewhere.
    """
    store = ArtifactStore(settings.data_dir)
    keys, events, proxies = KeyService(database), EventService(database), Proxies(settings)
    hub = EventHub(
        events,
        pause=settings.poll_seconds,
        most=settings.max_event_streams,
        most_of_project=settings.max_event_streams_of_project,
    )
    dataset_service = DatasetService(database, store, settings)
    jobs = JobService(database, store, proxies, Retention(database, store, settings))
    reader = ResultReader(database, store)
    return Services(
        settings=settings,
        store=store,
        keys=keys,
        project_overview=ProjectOverview(database, jobs.quotas),
        folder=SharedFolder(settings, database),
        sessions=Sessions(keys, settings.data_dir),
        limiter=make_limiter(settings),
        health=Health(database, worker_alive),
        metrics=ProcessMetrics(database, hub.__len__, store),
        events=events,
        hub=hub,
        webhooks=WebhookService(database, SecretBox(settings), Guard(Policy.of(settings))),
        datasets=dataset_service,
        dataset_statistics=DatasetStatistics(store),
        dataset_previews=DatasetPreviews(dataset_service, store, proxies, settings),
        uploads=UploadService(database, store, settings),
        gradient_sets=GradientSetService(database),
        jobs=jobs,
        job_logs=JobLogs(database),
        schedules=ScheduleService(jobs),
        evaluations=EvaluationService(database, proxies, jobs.quotas),
        reader=reader,
        results=ResultService(jobs, reader, store, settings),
        previews=Previews(database),
        job_pages=JobPages(database, reader),
        row_evidence=RowEvidenceService(database, store, reader),
    )


def contract_document() -> dict[str, Any]:
    """The contract of the service as it is by default, whatever the environment says."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, data_dir=Path(folder), database_url="sqlite://", log_level="error")
        return openapi.openapi(create_app(settings))
