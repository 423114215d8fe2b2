"""The worker processes of a deployment: each says again and again that it lives, and what memory it has."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.persistence.repositories import Workers
from app.persistence.session import Database

REGISTER_SECONDS = 15.0
"""Pause after which a worker registers again."""
LIVE_SECONDS = 60.0
"""Time without a registration after which a worker no longer counts."""
FORGET_SECONDS = 86400.0


@dataclass(frozen=True)
class WorkerMemory:
    """A worker process and its memory.

    Attributes:
        name: Of the process, as leases show it.
        device_bytes: Memory of the device where it computes.
        host_bytes: Memory of the machine.
        is_bfloat16_fast: Whether it computes faster in bfloat16 than in float32.
    """

    name: str
    device_bytes: int
    host_bytes: int
    is_bfloat16_fast: bool = False


class WorkerService:
    """Registers worker processes.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def register(self, worker: WorkerMemory) -> None:
        """Write down that a worker lives."""
        with self.database.write() as session:
            Workers(session).register(vars(worker))

    def deregister(self, name: str) -> None:
        """Forget a worker that ends, and others that died without a word."""
        with self.database.write() as session:
            Workers(session).deregister(name, FORGET_SECONDS)


def is_live_on(database: Database, host: str) -> bool:
    """Whether a worker process of a machine registered lately.

    Args:
        database: Where the records are.
        host: Name of the machine or container.
    """
    with database.read() as session:
        return any(worker.name.rpartition(":")[0] == host for worker in Workers(session).live(LIVE_SECONDS))


def live_workers(session: Session) -> list[WorkerMemory]:
    """Workers that registered lately, by name."""
    return [
        WorkerMemory(worker.name, worker.device_bytes, worker.host_bytes, worker.is_bfloat16_fast)
        for worker in Workers(session).live(LIVE_SECONDS)
    ]
