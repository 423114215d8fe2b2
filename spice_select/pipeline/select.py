"""The choice of a run on this machine, by either schedule: from the rows on the disk to the picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spice_select.config import RunConfig
from spice_select.errors import Stopped
from spice_select.fingerprint import periodic_fingerprint
from spice_select.ingest import IntakeLimits
from spice_select.models.memory import host_bytes
from spice_select.pipeline.constraints import read_base_selection, settle
from spice_select.pipeline.gradients import LocalGradients
from spice_select.pipeline.periodic import run_periodic
from spice_select.pipeline.pool import pool_within, read_groups
from spice_select.pipeline.progress import Clock
from spice_select.results.outcome import Choice
from spice_select.results.run_metadata import BaseSelectionFacts, ProxyFacts, TargetFacts, WarmupFacts
from spice_select.selection.result import StopRequest
from spice_select.selection.select import random_curve, select
from spice_select.storage.checkpoints import CheckpointFolder
from spice_select.training.periodic import Progress


@dataclass(frozen=True)
class LocalSelection:
    """What was chosen on this machine, and from what.

    Attributes:
        choice: What was chosen.
        proxy: The proxy model.
        fingerprint: Name of the gradients, or of the course of a periodic run.
        reused: Whether nothing had to be measured.
        warmup: The warm-up, if any.
        given: The choice that was owned already, if any.
        target: The data set that the choice was to be close to, if any.
    """

    choice: Choice
    proxy: ProxyFacts
    fingerprint: str
    reused: bool
    warmup: WarmupFacts | None
    given: BaseSelectionFacts | None = None
    target: TargetFacts | None = None


def select_offline(
    config: RunConfig,
    shards: list[Path],
    gradients: LocalGradients,
    clock: Clock,
    asked: StopRequest,
    *,
    given: Path | None,
    target: Path | None,
    scratch: Path,
    limits: IntakeLimits | None,
) -> LocalSelection:
    """All gradients, then the choice.

    Args:
        config: Settings of the run.
        shards: The intake's ``rows-*.parquet``, in order.
        gradients: Where the gradients are kept.
        clock: Told about every step.
        asked: Whether to stop, and why.
        given: Folder of an earlier result whose rows are owned already.
        target: File that the choice is to be close to.
        scratch: Folder for the rows of ``target``.
        limits: Caps on ``target``.
    """
    paths, proxy = gradients.fill(shards)
    fingerprint = gradients.fingerprint(proxy.revision)
    clock.enter("loading_gradients")
    pool = pool_within([(path, None) for path in paths], gradients.prints, host_bytes())
    owned, base_selection_facts = ((), None) if given is None else read_base_selection(given, fingerprint)
    settled = settle(config.conditions, pool, shards, owned).arguments()
    targets, target_facts = gradients.beside(target, scratch, limits) if target is not None else (None, None)
    clock.enter("selecting", unit="picks")
    tokens = pool.tokens.tolist()
    quotas = config.selection.quotas
    column = quotas.column if quotas is not None else None
    selection = select(
        pool.features,
        config.selection,
        costs=tokens,
        losses=pool.losses.tolist(),
        groups=read_groups(shards, column, pool.positions.tolist()) if column is not None else None,
        **settled,
        targets=targets,
        on_progress=clock.tell,
        should_stop=asked,
    )
    picked, seed = len(selection.indices), config.selection.seed
    choice = Choice(
        selection=selection,
        positions=pool.positions.tolist(),
        tokens=tokens,
        excluded=pool.excluded,
        truncated=len(pool.truncated),
        halvings=pool.halvings,
        random_curve=random_curve(pool.features, config.selection, picked, seed, 1, **settled),
    )
    return LocalSelection(
        choice, proxy, fingerprint, gradients.reused, gradients.warmup, given=base_selection_facts, target=target_facts
    )


def select_by_windows(
    config: RunConfig,
    shards: Sequence[Path],
    gradients: LocalGradients,
    folder: Path,
    clock: Clock,
    asked: StopRequest,
) -> LocalSelection:
    """The schedule ``periodic``, continued from its last checkpoint where there is one.

    Args:
        config: Settings of the run.
        shards: The intake's ``rows-*.parquet``, in order.
        gradients: For the proxy model and its warm-up.
        folder: Where checkpoints are kept.
        clock: Told about every step.
        asked: Whether to stop, and why.

    Raises:
        Stopped: Before the first window was done.
    """
    proxy = gradients.tunable(list(shards))
    facts = ProxyFacts.of(proxy)
    fingerprint = periodic_fingerprint(pool=gradients.pool_sha256, proxy_revision=facts.revision, config=config)
    checkpoints = CheckpointFolder(folder / "periodic" / fingerprint, fingerprint)
    start = checkpoints.load()
    measured = False

    def keep(progress: Progress, weights: Callable[[], Any]) -> None:
        nonlocal measured
        measured = True
        checkpoints.save(progress, weights)

    clock.enter("choosing_windows", unit="samples")
    choice = run_periodic(shards, proxy, config, start=start, on_window=keep, on_progress=clock.tell, should_stop=asked)
    if choice.schedule is None or not choice.schedule["windows_done"]:
        raise Stopped("stopped before the first window was done")
    return LocalSelection(choice, facts, fingerprint, reused=not measured, warmup=gradients.warmup)
