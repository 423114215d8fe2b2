"""The units that need torch: a warm-up, a gradient shard and a selection. Imported only where they run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ServiceError
from app.services.units.commits import GradientsOutcome, PartOutcome, SelectionOutcome, WarmupOutcome
from app.services.units.inputs import GradientsInputs, SelectInputs, TargetInputs, WarmedUp, WarmupInputs
from app.services.units.service import Claim
from app.settings import Settings
from app.status import JobStatus
from app.storage import ArtifactStore
from spice_select.arrays import StackedArrays
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.errors import EmptyPoolError, Stopped
from spice_select.models.memory import forget_peak, host_bytes, peak_bytes
from spice_select.models.proxy import Proxy, load_proxy
from spice_select.pipeline.constraints import settle
from spice_select.pipeline.periodic import run_periodic
from spice_select.pipeline.pool import Pool, measure_shard, open_pool, pool_within, read_groups
from spice_select.pipeline.warmup import Warmup, make_warmup, put_on_proxy
from spice_select.results.outcome import Choice
from spice_select.results.run_metadata import ProxyFacts
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.result import STOPPED
from spice_select.selection.select import Part, random_curve, select, select_part
from spice_select.storage.partition_files import write_part
from spice_select.storage.shards import write_shard
from spice_select.training.warmup import tuning_type
from workers.device import describe_device, device_bytes, fitting_threads, resolve_device
from workers.heartbeat import Heartbeat
from workers.storage.checkpoints import StoredCheckpoints
from workers.storage.gradient_store import GradientStore
from workers.storage.inputs import Load, part_header, stored_parts, stored_pool, stored_warmup
from workers.storage.result_files import stored_result


class Compute:
    """Gradients and selections of one worker process.

    Args:
        settings: For the device.
        store: Artifacts.
    """

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self.store = store
        self.shards = GradientStore(settings, store)
        self.device = resolve_device(settings.device)
        self.device_name = describe_device(self.device)
        self._fitting = partial(pool_within, memory_bytes=settings.worker_memory_bytes or host_bytes())
        self._loaded: tuple[str, Proxy] | None = None

    def warmup(self, claim: Claim, brief: WarmupInputs, heartbeat: Heartbeat) -> WarmupOutcome:
        """Tune the proxy model on a sample of the pool and store the weights that this leaves.

        Raises:
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        proxy = self.proxy(brief.proxy, brief.proxy_revision, _tunable(brief.gradients))
        rows = [self.store.intact(claim.project_id, sha256) for sha256 in brief.rows_sha256]
        heartbeat.phase("warming_up", measure="steps")
        began = time.monotonic()
        with self.store.scratch() as folder, fitting_threads(proxy.model):
            made = make_warmup(
                folder / "warmup",
                rows,
                proxy,
                brief.gradients,
                brief.fingerprint,
                on_progress=heartbeat.advance,
                should_stop=heartbeat.should_stop,
            )
            sha256 = self.store.add(claim.project_id, folder / "warmup", made.sha256)
        seconds = round(time.monotonic() - began, 3)
        return WarmupOutcome(sha256, {**made.result, "seconds": seconds, "device": self.device_name})

    def gradients(self, claim: Claim, brief: GradientsInputs, heartbeat: Heartbeat) -> GradientsOutcome:
        """Measure one shard of the pool and store it.

        Raises:
            ArtifactsLostError: The warm-up has to be made again.
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        warmup = None if brief.warmup is None else stored_warmup(self.store, claim.project_id, brief.warmup)
        weights = {} if warmup is None else {"warmup": warmup.sha256}
        proxy = self.proxy(brief.proxy, brief.proxy_revision, brief.gradients, warmup)
        rows = self.store.intact(claim.project_id, brief.rows_sha256)
        heartbeat.phase("computing_gradients", measure="samples")
        began = time.monotonic()
        forget_peak(self.device)
        with fitting_threads(proxy.model):
            shard = measure_shard(
                rows,
                brief.first_position,
                proxy,
                brief.gradients,
                header={"fingerprint": brief.fingerprint, "shard": claim.shard, **weights},
                on_progress=lambda completed, _total, tokens: heartbeat.advance(completed, tokens=tokens),
                should_stop=heartbeat.should_stop,
            )
        seconds = time.monotonic() - began
        with self.shards.scratch() as path:
            sha256 = write_shard(path, shard)
            where = self.shards.add(claim.project_id, path, sha256)
        result = {
            "samples": len(shard.rows),
            "tokens": int(shard.tokens.sum()),
            "shortest": int(shard.tokens.min()) if len(shard.tokens) else None,
            "excluded": len(shard.excluded),
            "truncated": len(shard.truncated),
            "halvings": shard.header.get("halvings", 0),
            "seconds": round(seconds, 3),
            "device": self.device_name,
            "device_bytes": device_bytes(self.device),
            "host_bytes": host_bytes(),
            "peak_bytes": peak_bytes(self.device),
            "proxy": asdict(ProxyFacts.of(proxy)),
            **weights,
            **where,
        }
        return GradientsOutcome(sha256, result)

    def part(self, claim: Claim, brief: SelectInputs, heartbeat: Heartbeat) -> PartOutcome:
        """Choose from one part of the pool and store the choice.

        Raises:
            ArtifactsLostError: Gradient shards have to be made again.
            Stopped: The heartbeat said so; a part that is not done is worth nothing.
        """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by stored_pool()
        assert claim.shard is not None
        began = time.monotonic()
        pool = self._pool(claim, brief, open_pool, heartbeat)
        heartbeat.phase("selecting", measure="picks")
        part = select_part(
            pool.features,
            brief.config.selection,
            claim.shard,
            costs=pool.tokens.tolist(),
            losses=pool.losses.tolist(),
            on_progress=heartbeat.advance,
            should_stop=heartbeat.should_stop,
        )
        if part is None:
            part = Part([], "pool_exhausted", 0)  # samples were left out, and fewer are left than parts were asked for
        if part.stop_reason in STOPPED:
            raise Stopped("the part is given back")
        with self.store.scratch() as folder:
            written = write_part(folder / "part", part, part_header(brief, claim.shard))
            sha256 = self.store.add(claim.project_id, folder / "part", written)
        seconds = round(time.monotonic() - began, 3)
        return PartOutcome(sha256, {"picks": len(part.picks), "refreshed": part.refreshed, "seconds": seconds})

    def select(self, claim: Claim, brief: SelectInputs, folder: Path, heartbeat: Heartbeat) -> SelectionOutcome:
        """Choose from the whole pool and write the files of the result into the store.

        Raises:
            ArtifactsLostError: Gradient shards or choices of parts have to be made again.
            Stopped: The lease was lost or the process is going down. A job that is cancelled or past its deadline
                keeps its prefix instead.
        """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by stored_pool()
        marks = [time.monotonic()]
        config = brief.config.selection
        # After a first round the gradients stay on the disk: only the winners of the parts are read as a whole.
        load = open_pool if brief.parts else self._fitting
        pool = self._pool(claim, brief, load, heartbeat)
        targets = None if brief.target is None else self._targets(claim, brief.target, brief.warmup, heartbeat)
        parts = stored_parts(self.store, claim.project_id, brief, len(pool.positions)) if brief.parts else None
        candidates = GradientMatrix(pool.features)
        marks.append(time.monotonic())
        heartbeat.phase("selecting", total=config.budget.resolve_count(len(pool.positions)), measure="picks")
        rows_shards = [self.store.intact(claim.project_id, shard["sha256"]) for shard in brief.dataset.shards or []]
        column = config.quotas.column if config.quotas is not None else None
        settled = settle(
            brief.config.conditions, pool, rows_shards, brief.given.source_rows if brief.given is not None else ()
        ).arguments()
        selection = select(
            candidates,
            config,
            parts=parts,
            costs=pool.tokens.tolist(),
            losses=pool.losses.tolist(),
            groups=read_groups(rows_shards, column, pool.positions.tolist()) if column is not None else None,
            **settled,
            targets=targets,
            on_progress=heartbeat.advance,
            should_stop=lambda: "deadline" if heartbeat.stop == JobStatus.EXPIRED else heartbeat.should_stop(),
        )
        if selection.partial and (heartbeat.lost or heartbeat.stop is None):
            raise Stopped("the selection is given back")
        picked = len(selection.indices)
        choice = Choice(
            selection=selection,
            positions=pool.positions.tolist(),
            tokens=pool.tokens.tolist(),
            excluded=pool.excluded,
            truncated=len(pool.truncated),
            halvings=pool.halvings,
            random_curve=random_curve(candidates, config, picked, config.seed, **settled),
        )
        marks.append(time.monotonic())
        heartbeat.phase("writing_files")
        made = brief.shards[0].result
        return stored_result(
            self.store,
            claim,
            brief,
            choice,
            folder,
            proxy=ProxyFacts(**made["proxy"]),
            device=str(made["device"]),
            seconds=_between(marks, ("loading_gradients", "selecting")),
        )

    def periodic(
        self, claim: Claim, brief: SelectInputs, checkpoints: StoredCheckpoints, folder: Path, heartbeat: Heartbeat
    ) -> SelectionOutcome:
        """Choose window by window, tuning the proxy model on the way, and write the files of the result into the store.

        Raises:
            ArtifactsLostError: The warm-up has to be made again.
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The lease was lost or the process is going down; what was written down last is continued. A job
                that is cancelled or past its deadline keeps the windows that are done instead.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        marks = [time.monotonic()]
        gradients = brief.gradient_set.config
        self._loaded = None  # this one is tuned, and serves nobody else
        proxy = self._load(brief.config.proxy, gradients["proxy_revision"], _tunable(brief.config.gradients))
        if brief.warmup is not None:
            put_on_proxy(proxy, stored_warmup(self.store, claim.project_id, brief.warmup), brief.config.gradients)
        rows_shards = [self.store.intact(claim.project_id, shard["sha256"]) for shard in brief.dataset.shards or []]
        begun = False

        def told(completed: int, total: int) -> None:
            nonlocal begun
            if not begun:
                heartbeat.phase("choosing_windows", total=total, measure="samples", already=completed)
                begun = True
            heartbeat.advance(completed, total)

        marks.append(time.monotonic())
        with fitting_threads(proxy.model):
            choice = run_periodic(
                rows_shards,
                proxy,
                brief.config,
                start=checkpoints.load(),
                on_window=checkpoints.save,
                on_progress=told,
                should_stop=lambda: "deadline" if heartbeat.stop == JobStatus.EXPIRED else heartbeat.should_stop(),
            )
        if choice.selection.partial and (heartbeat.lost or heartbeat.stop is None):
            raise Stopped("the choice by windows is given back")
        marks.append(time.monotonic())
        heartbeat.phase("writing_files")
        return stored_result(
            self.store,
            claim,
            brief,
            choice,
            folder,
            proxy=ProxyFacts.of(proxy),
            device=self.device_name,
            seconds=_between(marks, ("loading_model", "choosing_windows")),
        )

    def proxy(
        self, config: ProxyConfig, revision: str, gradients: GradientConfig, warmup: Warmup | None = None
    ) -> Proxy:
        """Load the proxy model, or take the one that is loaded already.

        Raises:
            ServiceError: ``proxy-changed`` when the files are no longer the ones the job was made for.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _load()
        wanted = f"{revision}/{gradients.digest()}/{warmup.sha256 if warmup is not None else ''}"
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # the old one goes before the new one comes: two may not fit
            proxy = self._load(config, revision, gradients)
            if warmup is not None:
                put_on_proxy(proxy, warmup, gradients)
            self._loaded = (wanted, proxy)
        return self._loaded[1]

    def _load(self, config: ProxyConfig, revision: str, gradients: GradientConfig) -> Proxy:
        """Load the proxy model.

        Raises:
            ServiceError: ``proxy-changed`` when the files are no longer the ones the job was made for.
        """
        proxy = load_proxy(config, gradients, device=self.device)
        if proxy.revision != revision:
            raise ServiceError(
                "proxy-changed", f"{config.model} is at {proxy.revision}, the job was made for {revision}"
            )
        return proxy

    def _pool(self, claim: Claim, brief: SelectInputs, load: Load, heartbeat: Heartbeat) -> Pool:
        """The pool of a selection.

        Raises:
            ArtifactsLostError: Gradient shards have to be made again.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by stored_pool()
        fingerprint = brief.gradient_set.fingerprint
        return stored_pool(
            self.shards,
            claim.project_id,
            brief.shards,
            fingerprint,
            warmup=brief.warmup,
            load=load,
            on_progress=heartbeat.advance,
            should_stop=heartbeat.should_stop,
        )

    def _targets(
        self, claim: Claim, target: TargetInputs, warmup: WarmedUp | None, heartbeat: Heartbeat
    ) -> np.ndarray | StackedArrays:
        """Gradients of the data set that the choice is to be close to, float32 of shape (m, d).

        Raises:
            EmptyPoolError: None of its samples has one.
        """
        try:
            return stored_pool(
                self.shards,
                claim.project_id,
                target.shards,
                target.fingerprint,
                warmup=warmup,
                load=self._fitting,
                on_progress=heartbeat.advance,
                should_stop=heartbeat.should_stop,
            ).features
        except EmptyPoolError as error:
            raise EmptyPoolError(f"target data set: {error.detail}", pointer="#/target_dataset_id") from error


def _between(marks: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """Seconds of each step, from the moments between them."""
    return {name: round(marks[place + 1] - marks[place], 3) for place, name in enumerate(names)}


def _tunable(gradients: GradientConfig) -> GradientConfig:
    """The same settings in the type that a model is tuned in."""
    name: Any = str(tuning_type(gradients)).removeprefix("torch.")
    return gradients.model_copy(update={"dtype": name})
