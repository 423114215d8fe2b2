"""The Celery task, and how it is rung."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from workers.loop import worker_name
from workers.main import GIVE_BACK, QUEUE, busy_children, celery_app, settings
from workers.run_unit import UnitRunner

RUN_UNIT = "spice.run_unit"

_shutdown = threading.Event()
_runner: UnitRunner | None = None


def _runner_of_this_child() -> UnitRunner:
    """One runner per child process keeps its model loaded."""
    global _runner
    if _runner is None:
        # Only now: the pool sets its own handlers after the initialisers of a child have run.
        signal.signal(GIVE_BACK, _give_back)
        _runner = UnitRunner(settings, worker_name(), _shutdown)
    return _runner


def _give_back(_signal: int, _frame: FrameType | None) -> None:
    _shutdown.set()


@celery_app.task(name=RUN_UNIT)  # type: ignore[untyped-decorator]  # Celery ships no types
def run_unit(unit_id: str) -> None:
    """Do a unit; safe to deliver twice, late, or never."""
    if _shutdown.is_set():
        return
    runner = _runner_of_this_child()
    with busy_children.get_lock():
        busy_children.value += 1
    try:
        runner.run(unit_id)
    finally:
        with busy_children.get_lock():
            busy_children.value -= 1


def ring(unit_id: str) -> None:
    """Send the doorbell of a unit."""
    celery_app.send_task(RUN_UNIT, args=(unit_id,))


def backlog() -> int:
    """Number of doorbells that wait in the broker."""
    with celery_app.connection_or_acquire() as connection:
        return int(connection.default_channel.client.llen(QUEUE))
