"""What a job will take, said before it runs: sizes from the settings, tokens and seconds from what past units took."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.errors import ServiceError
from app.persistence.repositories import GradientSets, RunHistory, Units
from app.persistence.repositories.history import RecordedSelection, RecordedShard
from app.persistence.session import Database
from app.persistence.tables import Dataset, GradientSet
from app.services.jobs.estimated_seconds import estimated_seconds
from app.services.jobs.planning import pool_of, prefilter_of, set_fingerprint
from app.services.jobs.proxies import ResolvedProxy
from app.services.workers import WorkerMemory, live_workers
from app.settings import Settings
from app.status import GradientSetStatus
from app.storage import ArtifactStore
from spice_select.config import GradientConfig, PartitionedScope, RunConfig, WindowsScope
from spice_select.defaults import notes as preset_notes
from spice_select.fingerprint import shard_fingerprints
from spice_select.models.architecture import ProxyShape, proxy_shape
from spice_select.models.batch_memory import (
    DTYPE_BYTES,
    VALUE_BYTES,
    batch_memory,
    tuning_bytes,
    tuning_peak_bytes,
)

CHOSEN_BYTES = 8
"""Those of the chosen rows are computed with in float64."""
MOST_REMEMBERED = 1000
"""Projects whose past is remembered at a time."""
BYTES_PER_TOKEN = 4.0
"""English text and the usual tokenizers, where nothing was measured yet."""


@dataclass(frozen=True)
class Estimate:
    """What a job will take. None where nothing is known, and then ``notes`` say why.

    Attributes:
        rows: Usable rows of the pool.
        measured_rows: Those of them that get gradients: all, or what a prefilter keeps.
        tokens: Tokens of the pool after cutting.
        tokens_basis: ``measured`` on these rows, ``other_data`` through the same tokenizer, or ``assumed``.
        batches: Batches of at most ``batch_tokens``, if they fill up.
        features: Numbers kept of each sample.
        gradient_bytes: Size of the stored gradients.
        memory: Bytes: ``gradients`` at full batches, ``gradients_least`` for weights and features alone (both with what
            the steps of a ``periodic`` schedule need, which is there meanwhile), ``tuning`` at full batches where the
            proxy model is tuned, ``tuning_least`` for its weights, their gradients and AdamW's memory alone,
            ``selecting_least`` for the chosen rows or one part of a pool that is cut into parts, and what the workers
            have or said they had, ``device`` and ``host``.
        disk: Bytes still to be stored, and free.
        seconds: ``gradients``, ``selecting``, ``other`` (starting, loading, writing files) and ``total``, without
            waiting in the queue.
        seconds_basis: ``measured`` with this model and these settings, ``other_settings`` with this model, ``assumed``
            where no unit has run yet; None where nothing is said or nothing is to be measured.
        cost: ``amount`` and ``currency`` of those seconds at ``per_hour``; None without them or without a price.
        shards: Gradient shards of the pool, and how many of them are there already.
        gradients_reused: Whether nothing is to be measured.
        fits: Whether memory and disk are enough; None where it cannot be told.
        obstacles: What does not fit.
        notes: What could not be told, and why.
    """

    rows: int
    measured_rows: int
    tokens: int | None
    tokens_basis: str | None
    batches: int | None
    features: int | None
    gradient_bytes: int | None
    memory: dict[str, int | None]
    disk: dict[str, int | None]
    seconds: dict[str, float | None]
    seconds_basis: str | None
    cost: dict[str, Any] | None
    shards: dict[str, int]
    gradients_reused: bool
    fits: bool | None
    obstacles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As it is stored on the job."""
        return asdict(self)


@dataclass(frozen=True)
class Past:
    """What units and jobs of a project took, latest first, and the workers that are there.

    Never read within a transaction that writes.
    """

    shards: list[RecordedShard]
    selections: list[RecordedSelection]
    workers: list[WorkerMemory]

    @property
    def is_bfloat16_fast(self) -> bool:
        """Whether every worker computes faster in bfloat16; False while there is none."""
        return bool(self.workers) and all(worker.is_bfloat16_fast for worker in self.workers)

    @classmethod
    def of(cls, session: Session, project_id: str) -> Past:
        """What there is now."""
        history = RunHistory(session, project_id)
        return cls(history.shards(), history.selections(), live_workers(session))


class Estimator:
    """Estimates jobs of one deployment.

    Args:
        settings: Of the service.
        store: Where the gradients will be kept.
    """

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self.settings = settings
        self.store = store
        self._past: dict[str, tuple[float, Past]] = {}

    def past(self, database: Database, project_id: str) -> Past:
        """What units and jobs of a project took, as it was ``estimate_memory_seconds`` ago at most."""
        kept, moment = self._past.get(project_id), time.monotonic()
        if kept is None or moment - kept[0] >= self.settings.estimate_memory_seconds:
            with database.read() as session:
                kept = (moment, Past.of(session, project_id))
            if len(self._past) >= MOST_REMEMBERED:
                self._past.clear()
            self._past[project_id] = kept
        return kept[1]

    def estimate(
        self,
        session: Session,
        dataset: Dataset,
        target: Dataset | None,
        config: RunConfig,
        proxy: ResolvedProxy,
        taken: Past,
        gradient_set: GradientSet | None,
    ) -> Estimate:
        """Estimate a job on a data set that is ready.

        Args:
            session: The running transaction.
            dataset: The pool.
            target: The data set of its targets, recorded or not.
            config: Settings of the job.
            proxy: Its model.
            taken: What earlier jobs took.
            gradient_set: The job's; looked for when None.
        """
        notes: list[str] = preset_notes(config)
        rows, gradients = dataset.num_usable or 0, config.gradients
        stored = dataset.shards or []
        done = _done_shards(session, dataset, target, config, proxy.revision, gradient_set)
        prefilter = config.conditions.prefilter
        measured = rows if prefilter is None else prefilter.count(rows)
        rows_left = sum(shard["rows"] for place, shard in enumerate(stored) if place not in done)
        rows_left = round(rows_left * measured / max(1, rows))
        if prefilter is not None and rows_left:
            notes.append(f"seconds: those of ranking {rows} rows by {prefilter.method} are not in it")
        past = [shard for shard in taken.shards if shard.config["proxy_revision"] == proxy.revision]
        tokens, basis = tokens_of(dataset, gradients, past)
        if tokens is None:
            notes.append("tokens: the data set was read before its text was counted; register it anew")
        elif basis == "assumed":
            notes.append("tokens: nothing was measured with this proxy yet, so 4 bytes of text are taken for a token")
        shape = None if proxy.sizes is None else proxy_shape(proxy.sizes)
        if shape is None:
            notes.append("memory: the proxy's sizes cannot be told from its config.json here")
        features = shape.features(gradients) if shape is not None else None
        memory = _memory(shape, features, rows, max((s["rows"] for s in stored), default=0), config, past)
        if memory["device"] is None:
            memory["device"] = max((worker.device_bytes for worker in taken.workers), default=None)
            memory["host"] = max((worker.host_bytes for worker in taken.workers), default=None)
        if self.settings.worker_memory_bytes:
            memory["device"] = memory["host"] = self.settings.worker_memory_bytes
        disk: dict[str, int | None] = {
            "needed": None if features is None else rows_left * features * DTYPE_BYTES[gradients.store_dtype],
            # At an address there is no end of it.
            "free": None if self.settings.gradient_store else shutil.disk_usage(self.store.root).free,
        }
        obstacles = _obstacles(memory, disk, needs_gradients=rows_left > 0)
        if gradients.warmup_steps or config.schedule.kind == "periodic":
            notes.append("seconds: a token of tuning counts like one that is measured, among those of the gradients")
        if memory["device"] is None:
            notes.append("memory: no worker has said yet how much it has")
        known = shape is not None and memory["device"] is not None
        seconds, seconds_basis = estimated_seconds(
            config,
            shape,
            past,
            taken.selections,
            taken.workers,
            tokens=tokens,
            rows=rows,
            measured=measured,
            rows_left=rows_left,
            notes=notes,
        )
        return Estimate(
            rows=rows,
            measured_rows=measured,
            tokens=tokens,
            tokens_basis=basis,
            batches=None if tokens is None else math.ceil(tokens * measured / max(1, rows) / gradients.batch_tokens),
            features=features,
            gradient_bytes=None if features is None else measured * features * DTYPE_BYTES[gradients.store_dtype],
            memory=memory,
            disk=disk,
            seconds=seconds,
            seconds_basis=seconds_basis,
            cost=self.settings.cost(seconds["total"]),
            shards={"total": len(stored), "done": len(done)},
            gradients_reused=bool(stored) and len(done) == len(stored),
            fits=False if obstacles else (True if known else None),
            obstacles=obstacles,
            notes=notes,
        )


def _done_shards(
    session: Session,
    dataset: Dataset,
    target: Dataset | None,
    config: RunConfig,
    revision: str,
    made: GradientSet | None,
) -> set[int]:
    """Shards of the pool that are measured: for it, or for another data set that has the same rows at that place."""
    if config.schedule.kind == "periodic":
        return set()  # nothing of an earlier choice serves another one
    shards, pool = dataset.shards or [], pool_of(dataset)
    prefilter = prefilter_of(session, dataset, target, config, revision)
    if made is None:
        fingerprint = set_fingerprint(dataset, config, revision, pool, prefilter)
        made = GradientSets(session).by_fingerprint(dataset.project_id, fingerprint)
    if made is not None and made.status == GradientSetStatus.READY:
        return set(range(len(shards)))
    prints = shard_fingerprints(
        shards, proxy_revision=revision, config=config.gradients, pool=pool, prefilter=prefilter
    )
    done, numbers = Units(session).done_shards(dataset.project_id, prints, None if made is None else made.id)
    return {place for place, name in enumerate(prints) if name in done or place in numbers}


def refuse_unfit(estimate: Estimate) -> None:
    """Refuse a job that cannot be done.

    Raises:
        ServiceError: ``does-not-fit``.
    """
    if estimate.obstacles:
        errors = [{"detail": obstacle, "pointer": "#/gradients"} for obstacle in estimate.obstacles]
        raise ServiceError("does-not-fit", estimate.obstacles[0], errors=errors)


def tokens_of(dataset: Dataset, gradients: GradientConfig, past: list[RecordedShard]) -> tuple[int | None, str | None]:
    """Tokens of the pool and how they are known.

    Args:
        dataset: The pool.
        gradients: Its ``max_length`` cuts the rows, and its ``objective`` says whether a row is one sequence or two.
        past: Shards that were measured with the same model.
    """
    text = [shard.get("text_bytes") for shard in dataset.shards or []]
    if not text or None in text:
        return None, None
    total = sum(size or 0 for size in text)
    alike = [
        shard
        for shard in past
        if shard.text_bytes and _cuts(shard.config["gradients"]) == _cuts(gradients.model_dump())
    ]
    own = [shard for shard in alike if shard.rows_sha256 == dataset.rows_sha256]
    for basis, shards in (("measured", own), ("other_data", alike)):
        measured = sum(shard.text_bytes or 0 for shard in shards)
        if measured:
            return round(total * sum(shard.result["tokens"] for shard in shards) / measured), basis
    return round(total / BYTES_PER_TOKEN), "assumed"


def _cuts(gradients: Mapping[str, Any]) -> tuple[Any, str]:
    return gradients.get("max_length"), gradients.get("objective", "sft")


def _memory(
    shape: ProxyShape | None,
    features: int | None,
    rows: int,
    shard_rows: int,
    config: RunConfig,
    past: list[RecordedShard],
) -> dict[str, int | None]:
    gradients, selection = config.gradients, config.selection
    # A pool too large for the memory is read from the disk in blocks. What has to be there at once are the chosen rows
    # in float64, for their utility and the proof, and one part of a pool that is cut into parts.
    chosen = min(rows, selection.budget.resolve_count(rows) or 0, selection.max_count or rows)
    part = -(-rows // selection.scope.parts) if isinstance(selection.scope, PartitionedScope) else 0
    said = [shard.result for shard in past if shard.result.get("device_bytes")]
    memory: dict[str, int | None] = {
        "gradients": None,
        "gradients_least": None,
        "tuning": None,
        "tuning_least": None,
        "selecting_least": None if features is None else features * max(CHOSEN_BYTES * chosen, VALUE_BYTES * part),
        "device": max((result["device_bytes"] for result in said), default=None),
        "host": max((result["host_bytes"] for result in said), default=None),
    }
    if shape is not None and features is not None:
        # A choice by windows holds one window's gradients, and between its steps what the next one needs.
        held = shard_rows
        if config.schedule.kind == "periodic" and isinstance(selection.scope, WindowsScope):
            held = min(rows, selection.scope.size)
        steps = config.schedule.kind == "periodic" and config.schedule.steps_every is not None
        measuring = batch_memory(shape, gradients, held, tuned=steps)
        longest = gradients.max_length * (2 if gradients.objective == "dpo" else 1)  # a pair is never cut in two
        memory["gradients"] = measuring.of_batch(max(gradients.batch_tokens, longest))
        memory["gradients_least"] = measuring.weights + measuring.features
        if gradients.warmup_steps or steps:
            memory["tuning"] = tuning_peak_bytes(shape, gradients)
            memory["tuning_least"] = tuning_bytes(shape, gradients)
    return memory


def _obstacles(memory: dict[str, int | None], disk: dict[str, int | None], *, needs_gradients: bool) -> list[str]:
    obstacles = []
    pairs = [("choosing needs at least", memory["selecting_least"], memory["host"], "the workers have")]
    if needs_gradients:
        pairs.append(("measuring needs at least", memory["gradients_least"], memory["device"], "the device has"))
        pairs.append(("tuning needs at least", memory["tuning_least"], memory["device"], "the device has"))
        pairs.append(("the gradients take", disk["needed"], disk["free"], "the disk has left"))
    for what, needed, available, where in pairs:
        if needed is not None and available is not None and needed > available:
            obstacles.append(f"{what} {needed:,} bytes, {where} {available:,}")
    return obstacles
