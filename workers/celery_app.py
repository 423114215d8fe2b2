"""The Celery application. A message carries a unit id; the database holds everything else (decision 3).

The parent process never imports torch: CUDA does not survive a fork, so only the children may touch it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from queue import Empty
from typing import Any

from billiard import active_children
from celery import Celery
from celery.apps.worker import Worker
from celery.signals import setup_logging, worker_init, worker_ready
from celery.worker.request import Request
from kombu.transport import TRANSPORT_ALIASES, redis

from app import logs
from app.services.storage.permissions import close_folder
from app.settings import Settings
from spice_select.models.threads import let_idle_threads_sleep
from workers.celery_child import Busy, wait_until_idle

QUEUE = "units"
HARD_LIMIT_SECONDS = 4 * 3600
"""A unit is minutes of work; a selection over a very large pool may take hours. Stalls are caught by the heartbeat."""
VISIBILITY_SECONDS = HARD_LIMIT_SECONDS + 3600

GIVE_BACK = signal.SIGUSR2
"""Tells a child to give its unit back; the pool keeps SIGTERM and SIGUSR1 for itself."""


class BoundedChannel(redis.Channel):
    """A channel that drops what is no message: kombu lets one such entry of the queue end the worker."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu ships few types
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logs.get_logger().warning("message_unreadable", error=f"{type(error).__name__}: {error}"[:200])
            raise Empty from error


class UnitTransport(redis.Transport):
    """Redis with ``BoundedChannel``."""

    Channel = BoundedChannel


# The only way to have a transport of one's own behind an ordinary redis:// address.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "workers.celery_app:UnitTransport"))

busy = Busy()
"""Shared with the children: the parent's event loop stands still while it shuts down."""

settings = Settings()

let_idle_threads_sleep()

celery_app = Celery("spice-select", broker=settings.broker_url.get_secret_value(), include=["workers.celery_tasks"])
celery_app.conf.update(
    task_default_queue=QUEUE,
    # Acknowledged after the run and never sent back: a lost message is sent again from the database, and one that
    # is sent back by the broker would run a unit that kills its worker for ever.
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_time_limit=HARD_LIMIT_SECONDS,
    visibility_timeout=VISIBILITY_SECONDS,
    # Every wait on the broker is bounded: at the defaults a paused Redis blocks a publisher for minutes.
    broker_transport_options={
        "visibility_timeout": VISIBILITY_SECONDS,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    # The lease decides whether work goes on, not the broker.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # The children are told at once (below); this is how long they have for the batch they are in.
    worker_soft_shutdown_timeout=10,
    # Against what leaks. Stale messages count as well, and a new child has to load torch and the model again: with a
    # small number a burst of them leaves every worker loading instead of working.
    worker_max_tasks_per_child=500,
    worker_send_task_events=False,
    # Whoever can write to the broker could otherwise shrink the pool to nothing or end the worker for good.
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    task_publish_retry=False,
)


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _set_up_logging(**_: Any) -> None:
    logs.configure(settings.log_level, settings.log_format)


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _assert_parent_is_light(**_: Any) -> None:
    assert "torch" not in sys.modules, "the parent of the worker must not import torch: CUDA does not survive a fork"


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _close_folder(**_: Any) -> None:
    close_folder(settings)  # before the children are forked, which inherit it


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _report_ready(**_: Any) -> None:
    logs.get_logger().info("worker_ready")


class UnitRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """A message that only wakes the worker: limits, times and follow-ups that it carries are not obeyed.

    A time limit of a millisecond would otherwise kill the child at its unit, three times, and so fail a job.
    """

    IGNORED = ("timelimit", "eta", "expires", "group", "chord")

    def __init__(self, message: Any, *args: Any, headers: dict[str, Any] | None = None, **options: Any) -> None:
        kept = dict(message.headers if headers is None else headers)
        for name in self.IGNORED:
            kept.pop(name, None)
        super().__init__(message, *args, headers=kept, **options)


class DrainingWorker(Worker):  # type: ignore[misc]  # Celery ships no types
    """A parent that passes the wish to end on to its children and waits only until their units are given back."""

    def wait_for_soft_shutdown(self) -> None:
        """Tell the children, then give them ``worker_soft_shutdown_timeout`` seconds for the batch they are in."""
        for child in active_children():
            with suppress(ProcessLookupError):
                os.kill(child.pid, GIVE_BACK)
        wait_until_idle(busy, float(self.app.conf.worker_soft_shutdown_timeout))


celery_app.Worker = celery_app.subclass_with_self(DrainingWorker, name="Worker")
