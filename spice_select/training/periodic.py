"""The paper's loop: measure a window, choose from it, every T windows take a step on what was chosen, next window.

Windows are those of the scope ``windows``: a shuffled pool cut into pieces, each chosen from by itself (as the authors'
code does: what an earlier window gave has no part in the gains of a later one). Gradients of two windows may be those
of two models, so every number of a pick speaks of its window alone; what can be said of the whole is a sum over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from spice_select.config import PeriodicSchedule, RunConfig, WindowsScope
from spice_select.errors import ConfigError, Stopped
from spice_select.gradients.per_sample import GradientProgress, SampleGradients, measure
from spice_select.records.tokenize import Example
from spice_select.selection.certificate import greedy_guarantee, spearman
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.greedy import choose
from spice_select.selection.methods import GREEDY, SideData
from spice_select.selection.partitions import for_part, selected_count, windows_of
from spice_select.selection.random_baseline import random_control
from spice_select.selection.result import STOPPED, Certificate, Selection, StopReason, StopRequest
from spice_select.training.resumable import ResumableTuner


class Pick(NamedTuple):
    """One pick, with the evidence it had in its window.

    Attributes:
        row: Place among the examples.
        window: Number of its window, from 0.
        gain: Marginal gain, nats.
        base_gain: The gain it would have had alone, nats.
        conflict: Conflict with the window's picks before it, in [0, 1].
        score: What it was compared by.
        margin: By how much the score exceeds any other's in its window, at least; infinite where none are compared.
        resolution: Below which margin changes within the precision may change the pick.
    """

    row: int
    window: int
    gain: float
    base_gain: float
    conflict: float
    score: float
    margin: float
    resolution: float


class WindowReport(NamedTuple):
    """What can be said about one window, at the model it was measured with.

    Attributes:
        size: Samples with a usable gradient.
        selected: Picks.
        utility: U of the picks, nats.
        upper_bound: No choice of as many from the window has a larger U, nats.
        random_utility: U of as many samples of the window drawn at random, nats.
        curvature: Total curvature of the window, in [0, 1].
        curvature_exact: 1.0 when the curvature is exact.
        epsilon_constant: The constant C of the window's picks; NaN where there is none.
        max_cosine: Largest cosine between two picks; NaN where there is none.
        refreshed: Gains brought up to date.
    """

    size: float
    selected: float
    utility: float
    upper_bound: float
    random_utility: float
    curvature: float
    curvature_exact: float
    epsilon_constant: float
    max_cosine: float
    refreshed: float


@dataclass
class Progress:
    """How far the loop is: all that is needed to go on, but for the weights.

    Attributes:
        picks: Picks of the windows that are done.
        reports: One for each of them.
        step_losses: Loss of each optimiser step on its rows before it was taken, nats per token.
        excluded: Samples without a usable gradient: ``row`` (place among the examples) and ``code``.
        early: The last reason other than the budget for which a window gave fewer picks, or the empty text.
        halvings: How often a batch was halved for lack of memory.
    """

    picks: list[Pick] = field(default_factory=list)
    reports: list[WindowReport] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    excluded: list[dict[str, Any]] = field(default_factory=list)
    early: str = ""
    halvings: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """The loop after some windows.

    Attributes:
        progress: What was chosen.
        weights: The trained weights and AdamW's memory of them by name; None before the first step.
    """

    progress: Progress
    weights: dict[str, np.ndarray] | None


@dataclass(frozen=True)
class Chosen:
    """What the loop chose.

    Attributes:
        progress: The picks and what is known about each window.
        windows: Windows of the pool.
        stop_reason: Why there are no more picks.
    """

    progress: Progress
    windows: int
    stop_reason: StopReason


def select_periodically(
    model: Any,
    examples: Sequence[Example],
    config: RunConfig,
    *,
    start: Checkpoint | None = None,
    on_window: Callable[[Progress, Callable[[], dict[str, np.ndarray] | None]], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: StopRequest | None = None,
) -> Chosen:
    """Choose window by window, with the model tuned on what was chosen so far.

    Args:
        model: A causal language model of transformers in the type it is tuned in, with the adapters of a warm-up if
            there was one; changed in place.
        examples: The pool, none empty.
        config: ``schedule`` must be periodic and ``selection.scope`` windows.
        start: Where an earlier call was interrupted; the result is the same to the last bit.
        on_window: Called after every window with the progress and a way to the trained weights and the optimiser's
            memory (None before the first step), for a checkpoint.
        on_progress: Called as (samples measured, all samples) at the start and after every batch.
        should_stop: Asked often; the window in hand is dropped, and those before it are the result.

    Returns:
        The picks in pick order.

    Raises:
        BudgetError: The windows cannot yield what is asked for.
        ConfigError: Another schedule or scope.
        MismatchedShardError: A checkpoint of another model.
    """  # ruff: ignore[docstring-extraneous-exception] - some are raised by the steps
    schedule, scope = config.schedule, config.selection.scope
    if not isinstance(schedule, PeriodicSchedule) or not isinstance(scope, WindowsScope):
        raise ConfigError("the schedule periodic needs the scope windows", pointer="#/selection/scope")
    wanted = selected_count(len(examples), config.selection, SideData())
    windows = [window for window in windows_of(len(examples), config.selection, scope, wanted) if window[1]]
    progress = start.progress if start is not None else Progress()
    trainer = ResumableTuner(model, config.gradients) if schedule.steps_every is not None else None
    if trainer is not None and start is not None and start.weights is not None:
        trainer.restore(start.weights, len(progress.step_losses))
    asked = should_stop if should_stop is not None else _never
    measured = sum(len(rows) for rows, _ in windows[: len(progress.reports)])
    every = sum(len(rows) for rows, _ in windows)
    tell = on_progress if on_progress is not None else _nobody
    tell(measured, every)
    for number in range(len(progress.reports), len(windows)):
        rows, share = windows[number]
        batches = partial(_tell_batch, tell, measured, every)
        if asked() or not _window(model, examples, config, number, rows, share, progress, asked, batches):
            reason = asked()
            return Chosen(progress, len(windows), reason if isinstance(reason, str) else "cancelled")
        measured += len(rows)
        every_window = schedule.steps_every
        due = every_window is not None and (number + 1) % every_window == 0 and number + 1 < len(windows)
        if trainer is not None and every_window is not None and due:
            since = [examples[pick.row] for pick in progress.picks if pick.window > number - every_window]
            if since:
                before = trainer.halvings
                progress.step_losses.append(trainer.step(since, len(progress.step_losses)))
                progress.halvings += trainer.halvings - before
        if on_window is not None:
            on_window(progress, lambda: trainer.tensors() if trainer is not None and progress.step_losses else None)
        tell(measured, every)
    return Chosen(progress, len(windows), progress.early or "budget_reached")  # type: ignore[arg-type]


def _never() -> bool:
    return False


def _nobody(_measured: int, _every: int) -> None:
    pass


def _tell_batch(
    tell: Callable[[int, int], None], before: int, every: int, measured: int, _n: int, _tokens: int
) -> None:
    tell(before + measured, every)


def _window(
    model: Any,
    examples: Sequence[Example],
    config: RunConfig,
    number: int,
    rows: torch.Tensor,
    share: int,
    progress: Progress,
    should_stop: StopRequest,
    on_progress: GradientProgress,
) -> bool:
    """Measure one window and choose from it; False, and nothing is added to the progress, when it was stopped."""
    places = rows.tolist()
    here = [examples[place] for place in places]
    try:
        found = measure(model, here, config.gradients, on_progress=on_progress, should_stop=lambda: bool(should_stop()))
    except Stopped:
        return False
    lost = _unusable(found)
    usable = torch.tensor([place for place in range(len(places)) if place not in lost], dtype=torch.int64)
    count = min(share, len(usable))
    candidates = GradientMatrix(found.features[usable])
    side = SideData(costs=found.tokens[usable].double(), losses=found.losses[usable])
    picks: list[Pick] = []
    report = WindowReport(len(usable), 0, 0.0, 0.0, 0.0, 0.0, 1.0, float("nan"), float("nan"), 0)
    early = "pool_exhausted" if count < share else ""
    if count:
        selection = choose(candidates, for_part(config.selection, count), side, None, should_stop)
        if selection.stop_reason in STOPPED:
            return False
        certificate = selection.certificate
        assert certificate is not None
        there = usable[torch.tensor(selection.indices, dtype=torch.int64)].tolist()
        margins = selection.margins or [math.inf] * len(there)
        least = selection.resolutions or [0.0] * len(there)
        evidence = (selection.gains, selection.base_gains, selection.conflicts, selection.scores, margins, least)
        picks = [Pick(places[place], number, *numbers) for place, *numbers in zip(there, *evidence, strict=True)]
        seed = config.selection.seed + 1_000_003 * number
        report = WindowReport(
            size=len(usable),
            selected=len(picks),
            utility=selection.utility,
            upper_bound=certificate.upper_bound,
            random_utility=random_control(candidates, config.selection, len(picks), seed),
            curvature=certificate.curvature,
            curvature_exact=float(certificate.curvature_exact),
            epsilon_constant=_or_nan(certificate.epsilon_constant),
            max_cosine=_or_nan(certificate.max_cosine),
            refreshed=selection.refreshed,
        )
        early = selection.stop_reason if selection.stop_reason != "budget_reached" else early
    progress.excluded += [{"row": places[place], "code": code} for place, code in sorted(lost.items())]
    progress.picks += picks
    progress.reports.append(report)
    progress.early = early or progress.early
    progress.halvings += found.halvings
    return True


def _unusable(found: SampleGradients) -> dict[int, str]:
    """Code of every sample whose gradient is not finite or zero, by its place."""
    nothing = dict.fromkeys((~found.features.any(dim=1)).nonzero().flatten().tolist(), "gradient-zero")
    broken = dict.fromkeys((~found.finite).nonzero().flatten().tolist(), "gradient-not-finite")
    return nothing | broken


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def as_selection(chosen: Chosen, config: RunConfig, places: dict[int, int], tokens: Sequence[int]) -> Selection:
    """The picks in the form of every other selection.

    Args:
        chosen: What the loop chose.
        config: Settings of the run.
        places: Candidate of each example.
        tokens: Tokens of each candidate.

    Returns:
        A selection whose ``utility`` is the sum of the windows' utilities, each at its own model, and whose certificate
        bounds that sum over all choices of as many samples from each window, *with the models being what they were*:
        nothing is proven about another course of the training.
    """
    progress, compares = chosen.progress, config.selection.method in GREEDY
    indices = [places[pick.row] for pick in progress.picks]
    gains, conflicts = [pick.gain for pick in progress.picks], [pick.conflict for pick in progress.picks]
    epsilons = [pick.gain - pick.base_gain for pick in progress.picks]
    utility = sum(report.utility for report in progress.reports)
    bound = sum(report.upper_bound for report in progress.reports)
    curvature = max((report.curvature for report in progress.reports), default=0.0)
    certificate = Certificate(
        utility=utility,
        upper_bound=bound,
        ratio=min(1.0, utility / bound) if bound > 0 else 1.0,
        bound="windows",
        curvature=curvature,
        curvature_exact=all(report.curvature_exact for report in progress.reports),
        greedy_bound=greedy_guarantee(curvature),
        spearman_conflict_gain=spearman(conflicts, gains),
        spearman_conflict_epsilon=spearman(conflicts, [abs(epsilon) for epsilon in epsilons]),
        epsilon_constant=_largest(report.epsilon_constant for report in progress.reports),
        mean_cosine=None,
        max_cosine=_largest(report.max_cosine for report in progress.reports),
        max_conflict=max(conflicts, default=0.0),
    )
    return Selection(
        indices=indices,
        gains=gains,
        base_gains=[pick.base_gain for pick in progress.picks],
        epsilons=epsilons,
        conflicts=conflicts,
        scores=[pick.score for pick in progress.picks],
        stop_reason=chosen.stop_reason,
        utility=utility,
        certificate=certificate,
        partial=chosen.stop_reason in STOPPED,
        method=config.selection.method,
        refreshed=int(sum(report.refreshed for report in progress.reports)),
        margins=[pick.margin for pick in progress.picks] if compares else None,
        resolutions=[pick.resolution for pick in progress.picks] if compares else None,
        cost=sum(int(tokens[index]) for index in indices),
    )


def _largest(values: Any) -> float | None:
    return max((value for value in values if value == value), default=None)
