"""The embedded worker: polls the same claim that a Celery message leads to, so no broker is needed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType

from app import logs, tracing
from app.settings import Settings
from spice_select.models.threads import let_idle_threads_sleep
from workers.background.maintenance import Maintenance
from workers.run_unit import UnitRunner

WEDGED_STATUS = 70
"""Exit status of a process that ended itself because its work hung."""


def worker_name() -> str:
    """Name of this process, as leases show it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set, so that a unit is given back at the next batch."""
    shutdown = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        shutdown.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return shutdown


def poll(
    settings: Settings, *, parent: int | None = None, ready_fd: int | None = None, until_idle: float | None = None
) -> None:
    """Claim and run units until the process is asked to end.

    Args:
        settings: Of the service.
        parent: Process id of the embedded service; when it is gone, so is this worker.
        until_idle: End after so many seconds without work; then a dispatcher does the maintenance.
        ready_fd: File descriptor that is told, and closed, when the first unit could be taken.
    """
    logs.configure(settings.log_level, settings.log_format)
    let_idle_threads_sleep()
    shutdown = stop_on_signals()
    log = logs.get_logger()
    # Whoever started this process starts another.
    tracing.configure(settings.tracing, "worker")
    runner = UnitRunner(settings, worker_name(), shutdown, wedged=lambda: os._exit(WEDGED_STATUS))
    runner.warm_up()
    maintenance = Maintenance(settings, shutdown).start() if until_idle is None else None
    log.info("worker_started", owner=runner.owner)
    if ready_fd is not None:
        os.write(ready_fd, b"+")
        os.close(ready_fd)
    worked_at = time.monotonic()
    while not shutdown.is_set() and (parent is None or os.getppid() == parent):
        try:
            claim = runner.claim_next()
            if claim is not None:
                runner.run_claim(claim)
                worked_at = time.monotonic()
                continue
        except Exception as error:  # a database that is away for a while must not end the worker
            log.error("worker_round_failed", exc_info=error)
            shutdown.wait(1.0)
        if until_idle is not None and time.monotonic() - worked_at >= until_idle:
            break
        shutdown.wait(settings.poll_seconds)
    shutdown.set()
    if maintenance is not None:
        maintenance.stop()
    log.info("worker_stopped", owner=runner.owner)
