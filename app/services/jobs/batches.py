"""The batch budget ``auto`` of a job: settled when the job is made, by the memory that the workers have free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.persistence.repositories import GradientSets, Units, Workers
from app.persistence.session import Database
from app.persistence.tables import Dataset, Worker
from app.services.jobs.planning import pool_of, set_fingerprint
from app.services.jobs.proxies import ResolvedProxy
from app.settings import Settings
from app.status import GradientSetStatus
from spice_select.config import GradientConfig, RunConfig
from spice_select.fingerprint import shard_fingerprints
from spice_select.models.architecture import proxy_shape
from spice_select.models.batch_memory import MOST_ON_CPU, MOST_ON_GPU, batch_memory, fitting_batch_tokens

SAY_SECONDS = 15.0
"""Pause after which a worker says again that it lives, and what memory it has."""
LIVE_SECONDS = 60.0
"""Time without a word after which a worker no longer counts."""
FORGET_SECONDS = 86400.0
DEFAULT_TOKENS = GradientConfig.model_fields["batch_tokens"].default


@dataclass(frozen=True)
class WorkerMemory:
    """A worker process and its memory.

    Attributes:
        name: Of the process, as leases show it.
        device: ``cpu`` or ``cuda``.
        place: Which one: processes of one place share its memory.
        total_bytes: Memory of the device.
        free_bytes: What of it the process could have now.
        host_bytes: Memory of the machine.
    """

    name: str
    device: str
    place: str
    total_bytes: int
    free_bytes: int
    host_bytes: int


@dataclass(frozen=True)
class ResolvedBatches:
    """The batch budget of a job.

    Attributes:
        requested: As asked for.
        tokens: Most padded tokens of a batch.
        basis: ``settings``, ``gradients`` (those that are measured already, or being measured), ``workers`` (the memory
            they have free) or ``default``.
    """

    requested: int | str
    tokens: int
    basis: str


class WorkerService:
    """The worker processes of a deployment.

    Args:
        database: Where the records are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def say(self, worker: WorkerMemory) -> None:
        """Write down that a worker lives."""
        with self.database.write() as session:
            Workers(session).say(vars(worker))

    def leave(self, name: str) -> None:
        """Forget a worker that ends, and others that died without a word."""
        with self.database.write() as session:
            Workers(session).leave(name, FORGET_SECONDS)


def live_workers(session: Session) -> list[WorkerMemory]:
    """Workers that were heard of lately."""
    return [_memory_of(worker) for worker in Workers(session).live(LIVE_SECONDS)]


def resolve_batches(
    session: Session,
    settings: Settings,
    dataset: Dataset,
    config: RunConfig,
    proxy: ResolvedProxy,
    workers: Sequence[WorkerMemory],
) -> tuple[RunConfig, ResolvedBatches]:
    """The settings with ``auto`` made a number, and where that is from.

    Gradients that are there, or on their way, decide before the memory does: another number would measure them again.

    Args:
        session: The running transaction.
        settings: Of the service.
        dataset: The pool.
        config: Settings of the job.
        proxy: Its model.
        workers: Those that may take the job.
    """
    requested = config.gradients.batch_tokens
    if requested != "auto":
        return config, ResolvedBatches(requested, requested, "settings")
    tokens, basis = _of_gradients(session, dataset, config, proxy.revision), "gradients"
    if tokens is None:
        tokens, basis = _of_workers(settings, dataset, config, proxy, workers), "workers"
    if tokens is None:
        tokens, basis = DEFAULT_TOKENS, "default"
    return _with(config, tokens), ResolvedBatches(requested, tokens, basis)


def _of_gradients(session: Session, dataset: Dataset, config: RunConfig, revision: str) -> int | None:
    """The number that gradients of these rows have: complete ones first, then those of which most is to come."""
    shards, pool = (dataset.shards or [])[:1], pool_of(dataset)
    if config.schedule.kind == "periodic" or not shards:
        return None  # nothing of an earlier choice serves another one
    first, whole = dict[str, int](), dict[str, int]()
    for tokens in _powers():
        one = _with(config, tokens)
        [name] = shard_fingerprints(shards, proxy_revision=revision, config=one.gradients, pool=pool)
        first[name] = whole[set_fingerprint(dataset, one, revision, pool)] = tokens
    status = GradientSets(session).named(dataset.project_id, list(whole))
    ready = [whole[name] for name, state in status.items() if state == GradientSetStatus.READY]
    if not ready:
        made, _ = Units(session).done_shards(dataset.project_id, first, None)
        ready = [first[name] for name in made]
    under_way = [whole[name] for name, state in status.items() if state == GradientSetStatus.COMPUTING]
    return max(ready or under_way, default=None)


def _of_workers(
    settings: Settings, dataset: Dataset, config: RunConfig, proxy: ResolvedProxy, workers: Sequence[WorkerMemory]
) -> int | None:
    """What fits the least of the workers whose memory holds the model at all; any of them may get any shard."""
    shape = None if proxy.sizes is None else proxy_shape(proxy.sizes)
    if shape is None or not workers:
        return None
    rows = max((shard["rows"] for shard in dataset.shards or []), default=0)
    memory = batch_memory(shape, config.gradients, rows, tuned=config.schedule.kind == "periodic")
    sharing = Counter(worker.place for worker in workers)
    able = [worker for worker in workers if worker.total_bytes > memory.weights + memory.per_token]
    found = []
    for worker in able or workers:
        free = worker.free_bytes // sharing[worker.place]
        if settings.worker_memory_bytes:
            free = min(free, settings.worker_memory_bytes)
        most = MOST_ON_CPU if worker.device == "cpu" else MOST_ON_GPU
        found.append(fitting_batch_tokens(free, memory, config.gradients.max_length, most))
    return min(found)


def _with(config: RunConfig, tokens: int) -> RunConfig:
    gradients = config.gradients.model_copy(update={"batch_tokens": tokens})
    return config.model_copy(update={"gradients": gradients})


def _powers() -> list[int]:
    return [2**exponent for exponent in range(3, MOST_ON_GPU.bit_length())]


def _memory_of(worker: Worker) -> WorkerMemory:
    values: dict[str, Any] = {name: getattr(worker, name) for name in WorkerMemory.__dataclass_fields__}
    return WorkerMemory(**values)
