"""The schedule ``periodic`` from the rows of a data set to a selection: library and worker both call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spice_select.config import PeriodicSchedule, ProxyConfig, RunConfig
from spice_select.models.proxy import Proxy, load_proxy
from spice_select.pipeline.measure import UNUSABLE, read_conversations
from spice_select.pipeline.pool import refuse_empty
from spice_select.pipeline.progress import PhaseReport
from spice_select.records.packed_examples import TokenPool
from spice_select.records.tokenize import encode
from spice_select.results.outcome import Choice
from spice_select.selection.result import StopRequest
from spice_select.training.periodic import Checkpoint, Chosen, Progress, as_selection, select_periodically
from spice_select.training.warmup import tuning_type

if TYPE_CHECKING:
    import torch


class Checkpoints(Protocol):
    """Where the progress of a periodic selection is kept between windows."""

    def load(self) -> Checkpoint | None:
        """The latest checkpoint; None where there is none that can be trusted."""

    def save(self, progress: Progress, weights: Callable[[], Any]) -> None:
        """Keep a checkpoint.

        Args:
            progress: What was selected so far.
            weights: Called for the trained weights when they have changed.
        """


def load_tunable(proxy: ProxyConfig, config: RunConfig, *, device: str | torch.device = "cpu") -> Proxy:
    """The proxy model in the type it is tuned in; gradients are taken in their own.

    Args:
        proxy: Which model.
        config: Settings of the run.
        device: Where the model goes.
    """
    name: Any = str(tuning_type(config.gradients)).removeprefix("torch.")
    return load_proxy(proxy, config.gradients.model_copy(update={"dtype": name}), device=device)


def select_by_windows(
    rows_shards: Sequence[Path],
    proxy: Proxy,
    config: RunConfig,
    *,
    checkpoints: Checkpoints,
    report: PhaseReport,
    should_stop: StopRequest,
) -> Choice:
    """Select from the rows of a data set window by window, continued from the last checkpoint where there is one.

    Args:
        rows_shards: The ``rows-*.parquet`` of the ingest, in order.
        proxy: From ``load_tunable``, warmed up if that is asked for; changed in place.
        config: Settings of the run.
        checkpoints: Where the progress is kept after every window.
        report: Told about every step, as (samples measured, all samples).
        should_stop: Asked often; windows that are done are the result.

    Raises:
        EmptyPoolError: No row can be learned from.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by refuse_empty()
    begun = False

    def advance(completed: int, total: int) -> None:
        nonlocal begun
        if not begun:
            report.phase("choosing_windows", total=total, measure="samples", already=completed)
            begun = True
        report.advance(completed, total)

    pool, kept, truncated, told = TokenPool(), list[int](), set[int](), Counter[str]()
    excluded: list[dict[str, Any]] = []
    first = 0
    for path in rows_shards:
        conversations = read_conversations(path)
        gradients = config.gradients
        encoding = encode(
            conversations,
            proxy.tokenizer,
            max_length=gradients.max_length,
            overflow=gradients.overflow,
            today=gradients.chat_date,
            objective=gradients.objective,
        )
        for example in encoding.examples:
            pool.append(example)
        kept += [first + index for index in encoding.kept]
        truncated |= {first + index for index in encoding.truncated}
        told.update(encoding.notes)
        excluded += [{"row": first + e.index, "code": e.code, "detail": e.detail} for e in encoding.excluded]
        first += len(conversations)
    if not kept:
        refuse_empty(excluded)
    chosen = select_periodically(
        proxy.model,
        pool,
        config,
        start=checkpoints.load(),
        on_window=checkpoints.save,
        on_progress=advance,
        should_stop=should_stop,
    )
    lost = {item["row"]: item["code"] for item in chosen.progress.excluded}
    excluded += [{"row": kept[row], "code": code, "detail": UNUSABLE[code]} for row, code in lost.items()]
    truncated -= {kept[row] for row in lost}
    left = [row for row in range(len(kept)) if row not in lost]
    lengths = pool.lengths()
    tokens = [lengths[row] for row in left]
    places = {row: place for place, row in enumerate(left)}
    return Choice(
        selection=as_selection(chosen, config, places, tokens),
        positions=[kept[row] for row in left],
        tokens=tokens,
        excluded=sorted(excluded, key=lambda item: int(item["row"])),
        truncated=len(truncated),
        truncated_positions=sorted(truncated),
        notes=told,
        halvings=chosen.progress.halvings,
        random_curve=_curve(chosen),
        schedule=_report(chosen, config),
    )


def _curve(chosen: Chosen, points: int = 64) -> list[tuple[int, float]]:
    picks, utility, curve = 0, 0.0, list[tuple[int, float]]()
    for report in chosen.progress.reports:
        picks, utility = picks + int(report.selected), utility + report.random_utility
        curve.append((picks, utility))
    stride = max(1, len(curve) // points)
    return [point for place, point in enumerate(curve) if (len(curve) - 1 - place) % stride == 0]


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
