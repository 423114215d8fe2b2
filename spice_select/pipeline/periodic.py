"""The schedule ``periodic`` from the rows of a data set to a selection: what worker and library both call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice_select.config import PeriodicSchedule, ProxyConfig, RunConfig
from spice_select.errors import EmptyPoolError
from spice_select.models.proxy import Proxy, load_proxy
from spice_select.pipeline.pool import UNUSABLE, read_conversations
from spice_select.records.packed_examples import TokenPool
from spice_select.records.tokenize import encode
from spice_select.results.outcome import Choice
from spice_select.selection.result import StopRequest
from spice_select.training.periodic import Checkpoint, Chosen, Progress, as_selection, select_periodically
from spice_select.training.warmup import tuning_type

if TYPE_CHECKING:
    import torch

OnWindow = Callable[[Progress, Callable[[], Any]], None]
"""Told after every window; see ``periodic.select_periodically``."""


def load_tunable(proxy: ProxyConfig, config: RunConfig, *, device: str | torch.device = "cpu") -> Proxy:
    """The proxy model in the type it is tuned in; gradients are taken in their own.

    Args:
        proxy: Which model.
        config: Settings of the run.
        device: Where the model goes.
    """
    name: Any = str(tuning_type(config.gradients)).removeprefix("torch.")
    return load_proxy(proxy, config.gradients.model_copy(update={"dtype": name}), device=device)


def run_periodic(
    rows_shards: Sequence[Path],
    proxy: Proxy,
    config: RunConfig,
    *,
    start: Checkpoint | None = None,
    on_window: OnWindow | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: StopRequest | None = None,
) -> Choice:
    """Choose from the rows of a data set window by window.

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
        proxy: From ``load_tunable``, warmed up if that is asked for; changed in place.
        config: Settings of the run.
        start: Where an earlier run was interrupted.
        on_window: Called after every window, for a checkpoint.
        on_progress: Called as (samples measured, all samples).
        should_stop: Asked often; windows that are done are the result.

    Raises:
        EmptyPoolError: No row can be learned from.
    """
    pool, kept, truncated = TokenPool(), list[int](), set[int]()
    excluded: list[dict[str, Any]] = []
    first = 0
    for path in rows_shards:
        conversations = read_conversations(path)
        gradients = config.gradients
        encoding = encode(conversations, proxy.tokenizer, max_length=gradients.max_length, overflow=gradients.overflow)
        for example in encoding.examples:
            pool.append(example)
        kept += [first + index for index in encoding.kept]
        truncated |= {first + index for index in encoding.truncated}
        excluded += [{"row": first + e.index, "code": e.code, "detail": e.detail} for e in encoding.excluded]
        first += len(conversations)
    if not kept:
        raise EmptyPoolError(f"no usable sample is left: all {len(excluded)} were excluded")
    chosen = select_periodically(
        proxy.model,
        pool,
        config,
        start=start,
        on_window=on_window,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    lost = {item["row"]: item["code"] for item in chosen.progress.excluded}
    excluded += [{"row": kept[row], "code": code, "detail": UNUSABLE[code]} for row, code in lost.items()]
    left = [row for row in range(len(kept)) if row not in lost]
    lengths = pool.lengths()
    tokens = [lengths[row] for row in left]
    places = {row: place for place, row in enumerate(left)}
    return Choice(
        selection=as_selection(chosen, config, places, tokens),
        positions=[kept[row] for row in left],
        tokens=tokens,
        excluded=sorted(excluded, key=lambda item: int(item["row"])),
        truncated=len(truncated - {kept[row] for row in lost}),
        halvings=chosen.progress.halvings,
        random_curve=_curve(chosen),
        schedule=_report(chosen, config),
    )


def _curve(chosen: Chosen, points: int = 64) -> list[tuple[int, float]]:
    picks, utility, found = 0, 0.0, list[tuple[int, float]]()
    for report in chosen.progress.reports:
        picks, utility = picks + int(report.selected), utility + report.random_utility
        found.append((picks, utility))
    stride = max(1, len(found) // points)
    return [point for place, point in enumerate(found) if (len(found) - 1 - place) % stride == 0]


def _report(chosen: Chosen, config: RunConfig) -> dict[str, Any]:
    assert isinstance(config.schedule, PeriodicSchedule)
    losses = chosen.progress.step_losses
    return {
        "kind": "periodic",
        "windows": chosen.windows,
        "windows_done": len(chosen.progress.reports),
        "steps_every": config.schedule.steps_every,
        "steps": len(losses),
        "first_step_loss": losses[0] if losses else None,
        "last_step_loss": losses[-1] if losses else None,
    }
