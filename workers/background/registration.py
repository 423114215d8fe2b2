"""A worker process registers while it lives, with what memory it has and whether bfloat16 is fast there."""

from __future__ import annotations

import threading

from sqlalchemy.exc import SQLAlchemyError

from app.logs import get_logger
from app.persistence.session import Database
from app.services.workers import REGISTER_SECONDS, WorkerMemory, WorkerService
from spice_select.models.memory import host_bytes
from workers.background.every import Every
from workers.device import device_bytes


def start_registration(database: Database, name: str, device: str, shutdown: threading.Event) -> Every:
    """Register now and every ``REGISTER_SECONDS`` until the process is asked to end, then deregister.

    Args:
        database: Where the records are.
        name: Of the process.
        device: Where it computes.
        shutdown: Set when the process is asked to end.
    """
    from spice_select.models.compute_type import is_bfloat16_fast  # brings torch: no process waits for that here

    workers = WorkerService(database)

    def register() -> None:
        workers.register(WorkerMemory(name, device_bytes(device), host_bytes(), is_bfloat16_fast(device)))

    def deregister() -> None:
        try:
            workers.deregister(name)
        except SQLAlchemyError as error:  # it is forgotten when it has been silent for long
            get_logger().warning("worker_not_deregistered", error=str(error))

    return Every(REGISTER_SECONDS, register, "registration", shutdown, at_once=True, at_end=deregister).start()
