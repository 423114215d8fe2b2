"""What has to be done now and then beside units, by the dispatcher and by the embedded worker alike."""

from __future__ import annotations

import threading
from typing import Self

from app.logs import get_logger
from app.persistence.schema import OwnTables
from app.persistence.session import Database
from app.services.datasets.uploads import UploadService
from app.services.jobs.proxies import Proxies
from app.services.jobs.schedules import ScheduleService
from app.services.jobs.service import JobService
from app.services.storage.checkpoints import sweep_checkpoints
from app.services.storage.data_folder import SharedFolder
from app.services.storage.retention import Retention
from app.services.units.service import UnitService
from app.settings import Settings
from app.storage import ArtifactStore
from workers.background.every import Every
from workers.background.webhook_sender import WebhookSender

SWEEP_SECONDS = 2.0
RETENTION_SECONDS = 600.0
SCHEDULE_SECONDS = 5.0
STOP_SECONDS = 5.0
"""How long the end waits for a call that is under way."""


class Maintenance:
    """Ends what nobody ends, removes what nobody needs, fires schedules, sends webhooks, each on a thread of its own.

    Any number of processes may do so at a time. It has connections of its own: a large store must not delay a unit.

    Args:
        settings: Of the service.
        shutdown: Set when the process is asked to end.
    """

    def __init__(self, settings: Settings, shutdown: threading.Event) -> None:
        self._database = Database(settings.resolved_database_url, pool_size=2)
        self._store = ArtifactStore(settings.data_dir)
        self._folder = SharedFolder(settings, self._database)
        self._tables = OwnTables(self._database)
        self._units = UnitService(self._database, settings)
        self._uploads = UploadService(self._database, self._store, settings)
        self._retention = Retention(self._database, self._store, settings)
        self._schedules = ScheduleService(JobService(self._database, self._store, Proxies(settings), self._retention))
        self._sender = WebhookSender(settings, Database(settings.resolved_database_url, pool_size=4))
        self._calls = [
            Every(SWEEP_SECONDS, self.sweep, "sweep", shutdown, at_once=True),
            Every(RETENTION_SECONDS, self.remove, "retention", shutdown),
            Every(SCHEDULE_SECONDS, self.fire, "schedules", shutdown, at_once=True),
        ]

    def start(self) -> Self:
        """Begin."""
        for call in self._calls:
            call.start()
        self._sender.start()
        return self

    def stop(self) -> None:
        """End, once ``shutdown`` is set."""
        self._sender.stop()
        for call in self._calls:
            call.join(STOP_SECONDS)
        self._database.dispose()

    def sweep(self) -> None:
        """End units that keep losing workers, jobs past their deadline, and uploads that were given up."""
        if not self._tables.are_own():
            return
        self._units.sweep()
        if self._folder.is_here():
            self._uploads.sweep()
            sweep_checkpoints(self._database, self._store)

    def fire(self) -> None:
        """Make the jobs of schedules whose time has come: target rows are stored, so only in the shared folder."""
        if self._tables.are_own() and self._folder.is_here():
            self._schedules.fire_due()

    def remove(self) -> None:
        """Remove old lines of logs, and files that no record names, unless folder or tables here are not ours."""
        if not self._tables.are_own():
            return
        removed = self._retention.sweep() if self._folder.is_here() else {}
        removed["log_lines_removed"] = self._retention.forget_logs()
        if any(removed.values()):
            get_logger().info("retention_swept", **removed)
