"""``create_app()``: the HTTP face, put together from settings."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app import logs, tracing
from app.api import contract, problems
from app.api.edge import Edge
from app.api.rates import RateLimiter
from app.api.routes import (
    api_keys,
    datasets,
    estimates,
    evaluations,
    events,
    files,
    gradient_sets,
    health,
    hub_face,
    jobs,
    metrics,
    provenance,
    uploads,
    webhooks,
)
from app.api.schemas.problems import ProblemRead
from app.api.streams import EventHub, told_to_end
from app.outbound import Guard, Policy
from app.persistence.session import Database
from app.services.choices import Choices
from app.services.data_folder import SharedFolder
from app.services.datasets import DatasetService
from app.services.deletion import JobDeletion
from app.services.evaluations import EvaluationService
from app.services.events import EventService
from app.services.gradient_sets import GradientSetService
from app.services.health import Health
from app.services.job_edits import JobEdits
from app.services.jobs import JobService
from app.services.keys import KeyService
from app.services.lineage_feed import LineageFeed
from app.services.measures import ProcessMeasures
from app.services.pictures import Pictures
from app.services.proxies import Proxies
from app.services.results import ResultService
from app.services.retention import Retention
from app.services.secret_box import SecretBox
from app.services.sessions import Sessions
from app.services.uploads import UploadService
from app.services.webhooks import WebhookService
from app.settings import Settings
from app.storage import ArtifactStore
from app.ui import browse, judge, login, pages, reference, statics, submit
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
    settings = settings or Settings()
    logs.configure(settings.log_level, settings.log_format)
    tracing.configure(settings.tracing, "api")
    database = Database(settings.resolved_database_url, pool_size=settings.database_pool_size)
    store = ArtifactStore(settings.data_dir)
    keys = KeyService(database)
    folder = SharedFolder(settings, database)
    events_service = EventService(database)
    hub = EventHub(
        events_service,
        pause=settings.poll_seconds,
        most=settings.max_event_streams,
        most_of_project=settings.max_event_streams_of_project,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        try:
            keys.refuse_unlocked(settings.auth)
            folder.take()
            with told_to_end(hub.close):
                yield
        finally:
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
    app.state.settings = settings
    app.state.store = store
    app.state.keys = keys
    app.state.folder = folder
    app.state.limiter = RateLimiter(settings.rate_limit_requests, settings.rate_limit_seconds)
    app.state.hub = hub
    app.state.measures = ProcessMeasures(database, hub.__len__, settings.data_dir)
    app.state.events = events_service
    app.state.datasets = DatasetService(database, store, settings)
    app.state.uploads = UploadService(database, store, settings)
    proxies = Proxies(settings)
    app.state.jobs = JobService(database, store, proxies)
    app.state.choices = Choices(database, store)
    app.state.gradient_sets = GradientSetService(database)
    app.state.evaluations = EvaluationService(database, proxies)
    app.state.job_edits = JobEdits(database)
    app.state.job_deletion = JobDeletion(database, Retention(database, store, settings))
    app.state.lineage = LineageFeed(database, settings.openlineage_namespace)
    app.state.sessions = Sessions(keys, settings.data_dir)
    app.state.pictures = Pictures(database, app.state.choices)
    app.state.error_page = pages.error_page
    app.state.results = ResultService(app.state.jobs, app.state.choices, store, settings)
    app.state.webhooks = WebhookService(database, SecretBox(settings), Guard(Policy.of(settings)))
    app.state.health = Health(database, worker_alive)
    # Every route of /v1 takes ``deps.Project``, which asks for the key; tests/app/test_auth.py walks the contract.
    for module in (
        uploads,
        datasets,
        jobs,
        estimates,
        evaluations,
        files,
        provenance,
        events,
        gradient_sets,
        api_keys,
        health,
        metrics,
        hub_face,
        webhooks,
    ):
        app.include_router(module.router)
    for part in (browse, submit, judge, login, statics, reference):
        app.include_router(part.router)
    problems.install(app)
    app.add_middleware(Edge, max_body_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes)
    app.openapi = lambda: contract.openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def contract_document() -> dict[str, Any]:
    """The contract of the service as it is by default, whatever the environment says."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, data_dir=Path(folder), database_url="sqlite://", log_level="error")
        return contract.openapi(create_app(settings))
