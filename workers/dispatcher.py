"""The dispatcher: rings every runnable unit and sweeps up what nobody ends. Any number of replicas may run."""

from __future__ import annotations

from collections.abc import Callable

from app import logs
from app.persistence.session import Database
from app.services.datasets.uploads import UploadService
from app.services.storage.checkpoints import sweep_checkpoints
from app.services.storage.data_folder import SharedFolder
from app.services.units.service import UnitService
from app.settings import Settings
from app.storage import ArtifactStore
from workers.background.retention import start_removal
from workers.background.webhook_sender import WebhookSender
from workers.poller import SWEEP_SECONDS, stop_on_signals

MAX_PAUSE_SECONDS = 10.0


def dispatch(settings: Settings, ring: Callable[[str], None], backlog: Callable[[], int]) -> None:
    """Ring until the process is asked to end; a broker or database that is away only costs time.

    Args:
        settings: Of the service.
        ring: Sends the doorbell of a unit.
        backlog: Number of doorbells that wait to be heard.
    """
    logs.configure(settings.log_level, settings.log_format)
    shutdown = stop_on_signals()
    log = logs.get_logger()
    database = Database(settings.resolved_database_url, pool_size=2)
    units = UnitService(database, settings)
    store = ArtifactStore(settings.data_dir)
    folder = SharedFolder(settings, database)
    uploads = UploadService(database, store, settings)
    start_removal(settings, shutdown)
    sender = WebhookSender(settings, Database(settings.resolved_database_url, pool_size=4))
    sender.start()
    log.info("dispatcher_started")
    pause = settings.poll_seconds
    until_sweep = 0.0
    while not shutdown.is_set():
        try:
            if until_sweep <= 0:
                units.sweep()
                if folder.is_here():
                    uploads.sweep()
                    sweep_checkpoints(database, store)
                until_sweep = SWEEP_SECONDS
            rung = units.ring(ring, backlog=backlog)
            if rung:
                log.info("units_rung", count=rung)
            pause = settings.poll_seconds
        except Exception as error:  # the loop is what keeps accepted jobs from being lost: it never ends by itself
            pause = min(MAX_PAUSE_SECONDS, pause * 2)
            log.error("dispatcher_round_failed", error=str(error), next_try_seconds=pause)
        shutdown.wait(pause)
        until_sweep -= pause
    sender.stop()
    database.dispose()
    log.info("dispatcher_stopped")
