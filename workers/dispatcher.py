"""The dispatcher: notifies workers of every runnable unit. Any number of replicas may run."""

from __future__ import annotations

from app import logs
from app.persistence.schema import OwnTables
from app.persistence.session import Database
from app.services.units.service import UnitService
from app.settings import Settings
from workers.background.maintenance import Maintenance
from workers.executors import Executor
from workers.poller import stop_on_signals

MAX_PAUSE_SECONDS = 10.0


def dispatch(settings: Settings, executor: Executor) -> None:
    """Notify until the process is asked to end; a broker, scheduler or database that is away only costs time.

    Args:
        settings: Of the service.
        executor: Brings workers to runnable units.
    """
    logs.configure(settings.log_level, settings.log_format)
    shutdown = stop_on_signals()
    log = logs.get_logger()
    database = Database(settings.resolved_database_url, pool_size=2)
    units, tables = UnitService(database, settings), OwnTables(database)
    maintenance = Maintenance(settings, shutdown).start()
    log.info("dispatcher_started", executor=settings.executor)
    pause = settings.poll_seconds
    while not shutdown.is_set():
        try:
            notified = units.notify(executor.notify, backlog=executor.backlog) if tables.are_own() else 0
            if started := executor.start():
                log.info("workers_started", count=started)
            if notified:
                log.info("units_notified", count=notified)
            pause = settings.poll_seconds
        except Exception as error:  # the loop is what keeps accepted jobs from being lost: it never ends by itself
            pause = min(MAX_PAUSE_SECONDS, pause * 2)
            log.error("dispatcher_round_failed", error=str(error), next_try_seconds=pause)
        shutdown.wait(pause)
    maintenance.stop()
    database.dispose()
    log.info("dispatcher_stopped")
