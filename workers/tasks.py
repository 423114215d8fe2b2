"""The Celery task, and how it is rung."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from celery.signals import worker_process_init

from workers.loop import worker_name
from workers.main import celery_app, settings
from workers.run_unit import UnitRunner

RUN_UNIT = "spice.run_unit"

_shutdown = threading.Event()
_runner: UnitRunner | None = None


@worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _give_back_on_terminate(**_: Any) -> None:
    """In the child: the first SIGTERM stops the running unit at its next batch, so that it goes back at once."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        told_before = _shutdown.is_set()
        _shutdown.set()
        if told_before and (_runner is None or not _runner.busy):
            raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)


@celery_app.task(name=RUN_UNIT)  # type: ignore[untyped-decorator]  # Celery ships no types
def run_unit(unit_id: str) -> None:
    """Do a unit; safe to deliver twice, late, or never."""
    global _runner
    if _shutdown.is_set():
        return
    if _runner is None:
        _runner = UnitRunner(settings, worker_name(), _shutdown)
    _runner.run(unit_id)


def ring(unit_id: str) -> None:
    """Send the doorbell of a unit."""
    celery_app.send_task(RUN_UNIT, args=(unit_id,))
