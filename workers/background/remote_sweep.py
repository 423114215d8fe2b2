"""Removing gradients in object storage that no record names; only workers have its client and its credentials."""

from __future__ import annotations

import threading

from app.logs import get_logger
from app.persistence.session import Database
from app.services.storage.remote_gradients import sweeps, unnamed
from app.settings import Settings
from spice_select.storage.object_store import ObjectStore
from workers.background.every import Every
from workers.storage.gradient_store import GradientStore

PAUSE_SECONDS = 3600.0


def sweep_remote(database: Database, remote: ObjectStore, grace_seconds: float) -> int:
    """Remove what no record names; how many files.

    Args:
        database: Where the records are.
        remote: The files in object storage.
        grace_seconds: Age below which a file stays: its record may be on the way.

    Raises:
        StoreUnreachableError: The object storage does not answer.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by ages() and remove()
    gone = unnamed(database, remote.ages(), grace_seconds)
    remote.remove(gone)
    return len(gone)


def start_remote_sweep(
    settings: Settings, database: Database, name: str, shards: GradientStore, shutdown: threading.Event
) -> Every:
    """Sweep now and then; of all workers that live one does.

    Args:
        settings: For the grace.
        database: Where the records are.
        name: Of this worker.
        shards: Where the gradients are.
        shutdown: Set when the process is asked to end.
    """

    def sweep() -> None:
        if sweeps(database, name):
            removed = sweep_remote(database, shards.remote, settings.artifact_grace_seconds)
            get_logger().info("remote_gradients_swept", removed=removed)

    return Every(PAUSE_SECONDS, sweep, "remote-sweep", shutdown).start()
