"""Throwing away what nobody needs, now and then, beside whatever else a process does."""

from __future__ import annotations

import threading

from app.logs import get_logger
from app.persistence.session import Database
from app.services.storage.data_folder import SharedFolder
from app.services.storage.retention import Retention
from app.settings import Settings
from app.storage import ArtifactStore

PAUSE_SECONDS = 600.0


def start_removal(settings: Settings, shutdown: threading.Event) -> threading.Thread:
    """Sweep on a thread with a connection of its own: listing a large store must not delay a doorbell.

    Any number of processes may do so at a time; each file is removed by one of them.
    """
    database = Database(settings.resolved_database_url, pool_size=1)
    folder = SharedFolder(settings, database)
    retention = Retention(database, ArtifactStore(settings.data_dir), settings)

    def sweep() -> None:
        while not shutdown.wait(PAUSE_SECONDS):
            try:
                done = retention.sweep() if folder.is_here() else {}
            except Exception as error:  # a database or a disk that is away for a while must not end the sweeping
                get_logger().error("retention_round_failed", exc_info=error)
                continue
            if any(done.values()):
                get_logger().info("retention_swept", **done)
        database.dispose()

    thread = threading.Thread(target=sweep, name="retention", daemon=True)
    thread.start()
    return thread
