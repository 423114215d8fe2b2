"""A worker process says that it lives and what memory it has free, from a thread of its own."""

from __future__ import annotations

import socket
import threading

from sqlalchemy.exc import SQLAlchemyError

from app.logs import get_logger
from app.persistence.session import Database
from app.services.jobs.batches import SAY_SECONDS, WorkerMemory, WorkerService
from spice_select.models.memory import free_bytes, host_bytes
from workers.device import device_bytes, device_place


def memory_of(name: str, device: str) -> WorkerMemory:
    """A worker and its memory at this moment.

    What the process holds of a graphics card counts as free: it is let go before the next model comes.

    Args:
        name: Of the process, as leases show it.
        device: Where it computes.
    """
    return WorkerMemory(
        name=name,
        device=device.partition(":")[0],
        place=f"{socket.gethostname()}/{device_place(device)}",
        total_bytes=device_bytes(device),
        free_bytes=free_bytes(device, own=True),
        host_bytes=host_bytes(),
    )


def start_registration(database: Database, name: str, device: str, shutdown: threading.Event) -> threading.Thread:
    """Say so now and every ``SAY_SECONDS`` until the process is asked to end.

    Args:
        database: Where the records are.
        name: Of the process.
        device: Where it computes.
        shutdown: Set when the process is asked to end.
    """
    workers = WorkerService(database)

    def tell() -> None:
        while not shutdown.is_set():
            try:
                workers.say(memory_of(name, device))
            except (SQLAlchemyError, RuntimeError) as error:  # a database or a device that is away for a while
                get_logger().warning("presence_not_told", error=str(error))
            shutdown.wait(SAY_SECONDS)
        try:
            workers.leave(name)
        except SQLAlchemyError as error:  # it is forgotten when it has been silent for long
            get_logger().warning("presence_not_ended", error=str(error))

    thread = threading.Thread(target=tell, name="presence", daemon=True)
    thread.start()
    return thread
