"""Removing gradients at an address that no record names; only workers have its client and its credentials."""

from __future__ import annotations

import threading

from app.logs import get_logger
from app.persistence.session import Database
from app.services.storage.remote_gradients import sweeps, unnamed
from app.settings import Settings
from spice_select.storage.object_store import ObjectStore
from workers.storage.gradient_store import GradientStore

PAUSE_SECONDS = 3600.0


def sweep_remote(database: Database, far: ObjectStore, grace_seconds: float) -> int:
    """Remove what no record names; how many files.

    Args:
        database: Where the records are.
        far: The files at the address.
        grace_seconds: Age below which a file stays: its record may be on the way.

    Raises:
        StoreUnreachableError: The address does not answer.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by ages() and remove()
    gone = unnamed(database, far.ages(), grace_seconds)
    far.remove(gone)
    return len(gone)


def start_remote_sweep(
    settings: Settings, database: Database, name: str, shards: GradientStore, shutdown: threading.Event
) -> threading.Thread:
    """Sweep now and then; of all workers that live one does.

    Args:
        settings: For the grace.
        database: Where the records are.
        name: Of this worker.
        shards: Knows the address.
        shutdown: Set when the process is asked to end.
    """

    def sweep() -> None:
        while not shutdown.wait(PAUSE_SECONDS):
            try:
                if sweeps(database, name):
                    removed = sweep_remote(database, shards.far, settings.artifact_grace_seconds)
                    get_logger().info("far_gradients_swept", removed=removed)
            except Exception as error:  # a database or a bucket that is away for a while must not end the sweeping
                get_logger().error("far_sweep_failed", error=str(error))

    thread = threading.Thread(target=sweep, name="far-sweep", daemon=True)
    thread.start()
    return thread
