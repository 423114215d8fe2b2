"""The Celery task, and the message that starts it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from celery.signals import worker_process_init

from app import tracing
from app.logs import get_logger
from workers.celery_app import GIVE_BACK, QUEUE, busy, celery_app, settings
from workers.celery_child import CeleryChild
from workers.poller import WEDGED_STATUS, worker_name
from workers.run_unit import UnitRunner

RUN_UNIT = "spice.run_unit"

_shutdown = threading.Event()
_celery_child = CeleryChild(
    lambda: UnitRunner(settings, worker_name(), _shutdown, wedged=lambda: os._exit(WEDGED_STATUS)),
    busy,
    _shutdown,
    silence_seconds=settings.silence_seconds,
    pause_seconds=settings.poll_seconds,
)


@worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _begin(**_: Any) -> None:
    """In each child, once it is forked."""
    signal.signal(GIVE_BACK, _give_back)
    tracing.configure(settings.tracing, "worker")
    _celery_child.start()


def _give_back(_signal: int, _frame: FrameType | None) -> None:
    _shutdown.set()


@celery_app.task(name=RUN_UNIT, Request="workers.celery_app:UnitRequest")  # type: ignore[untyped-decorator]  # Celery ships no types
def run_unit(unit_id: str) -> None:
    """Do a unit, not necessarily the one that the message was sent for; safe to deliver twice, late, or never."""
    get_logger().debug("notified", sent_for=unit_id)
    _celery_child.answer()


class CeleryExecutor:
    """Wakes workers that run already, by messages."""

    def notify(self, unit_id: str) -> None:
        """Send the message about a unit."""
        celery_app.send_task(RUN_UNIT, args=(unit_id,))

    def backlog(self) -> int:
        """Number of messages that wait in the broker."""
        with celery_app.connection_or_acquire() as connection:
            return int(connection.default_channel.client.llen(QUEUE))

    def start(self) -> int:
        """None: the messages are sent."""
        return 0
