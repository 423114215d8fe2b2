"""Numbers, times and states as a person reads them. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.api.schemas.jobs import JobRead
from app.status import TERMINAL

NOTHING = "\N{EN DASH}"
STEPS = ("Waiting", "Gradients", "Selecting", "Writing files", "Done")
STEP_OF_PHASE = {
    "loading_model": 1,
    "warming_up": 1,
    "prefiltering": 1,
    "computing_gradients": 1,
    "loading_gradients": 2,
    "selecting": 2,
    "choosing_windows": 2,
    "writing_files": 3,
}
WAITING = "waiting_for_worker"
PHASES = {
    "waiting_for_worker": "Waiting for a worker",
    "waiting_for_gpu": "Waiting: every worker is busy",
    "project_limit": "Waiting: the project runs as much as it may",
    "loading_model": "Loading the proxy model",
    "warming_up": "Warming the proxy model up",
    "prefiltering": "Ranking the pool for the targets",
    "computing_gradients": "Computing gradients",
    "loading_gradients": "Loading gradients",
    "selecting": "Selecting",
    "choosing_windows": "Choosing window by window",
    "writing_files": "Writing files",
}
STOPS = {
    "budget_reached": "the budget was reached",
    "stop_ratio": "gains fell below the stop ratio",
    "min_gain": "gains fell below the least gain",
    "pool_exhausted": "no candidate was left",
    "cancelled": "it was cancelled",
    "deadline": "the deadline passed",
}
METHODS = {
    "spice": "SPICE",
    "fisher": "Fisher greedy",
    "random": "Random",
    "stratified": "Stratified",
    "length_matched": "Length-matched random",
    "top_norm": "Largest gradients",
    "loss": "Highest loss",
    "less": "LESS",
    "dpp": "DPP (greedy MAP)",
    "facility_location": "Facility location",
    "k_center": "k-center",
    "herding": "Herding",
    "bm25": "BM25 (words)",
    "embedding": "Embeddings (RDS+)",
}


@dataclass(frozen=True)
class Step:
    """One step of a job.

    Attributes:
        name: For people.
        state: ``done``, ``now`` or ``next``.
        note: How long it took, or that it was not needed.
    """

    name: str
    state: str
    note: str


def number(value: float | None) -> str:
    """Whole numbers with separators, others with three significant digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}"


def percent(part: float | None, whole: float | None = 1.0) -> str:
    """A share, in percent."""
    if part is None or not whole:
        return NOTHING
    share = 100 * part / whole
    return f"{share:.3g} %" if share >= 0.1 or share == 0 else f"{share:.1g} %"


def size(count: int) -> str:
    """Bytes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def money(cost: Mapping[str, Any]) -> str:
    """The cost of an estimate, to the hundredth; less than one in words."""
    amount, currency = cost["amount"], cost["currency"]
    return f"less than 0.01 {currency}" if 0 < amount < 0.01 else f"{amount:,.2f} {currency}"


def duration(seconds: float | None) -> str:
    """A length of time."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60 + 0.5)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // 1440} days"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago a moment was."""
    if moment is None:
        return NOTHING
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return "just now" if seconds < 10 else f"{duration(seconds)} ago"


def until(moment: datetime, now: datetime | None = None) -> str:
    """How long it is until a moment."""
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return "any moment" if seconds < 5 else f"in about {duration(seconds)}"


def stamp(moment: datetime | None) -> str:
    """A moment, to the second."""
    return NOTHING if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def budget(values: dict[str, Any]) -> str:
    """A budget, short; one of a newer release in its own words."""
    said = [(name, value) for name, value in values.items() if value is not None]
    if len(said) == 1 and isinstance(said[0][1], int | float):
        name, value = said[0]
        if name in {"fraction", "tokens", "count"}:
            return percent(value) if name == "fraction" else f"{value:,} {'rows' if name == 'count' else name}"
    return " ".join(f"{name} {value}" for name, value in said) or NOTHING


def choice(config: dict[str, Any]) -> str:
    """The method and the budget of a job."""
    selection = config.get("selection") or {}
    method = str(selection.get("method") or NOTHING)
    return f"{METHODS.get(method, method)}, {budget(selection.get('budget') or {})}"


def settings(config: dict[str, Any], within: str = "") -> list[tuple[str, Any]]:
    """The settings of a job that say something, each by its group and its name.

    Args:
        config: As it is shown; one of a newer release may have groups that this one does not know.
        within: The group that it is of, for the names.
    """
    lines: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, dict) and not within:
            lines += settings(value, f"{name}.")
        elif value is not None and value != []:
            lines.append((f"{within}{name}", value))
    return lines


def phase(word: str | None) -> str:
    """A phase or a reason to wait."""
    return "" if word is None else PHASES.get(word, word.replace("_", " ").capitalize())


def steps(job: JobRead) -> list[Step]:
    """The steps of a job and where it stands."""
    seconds = (job.result or {}).get("seconds", {})
    chosen = seconds.get("selecting", seconds.get("choosing_windows"))
    notes = [
        duration(seconds["queued"]) if seconds.get("queued") is not None else "",
        "reused" if job.gradients_reused else duration(seconds["gradients"]) if seconds.get("gradients") else "",
        duration(chosen) if chosen is not None else "",
        duration(seconds["writing_files"]) if seconds.get("writing_files") is not None else "",
        "",
    ]
    if job.status in TERMINAL:
        at = len(STEPS) if job.result is not None else 0
    elif job.phase in STEP_OF_PHASE:
        at = STEP_OF_PHASE[job.phase]
    elif job.status == "queued":
        at = 0
    else:
        # Between its units a running job waits; without progress it is past the gradients.
        at = 1 if job.progress is not None else 2
    return [
        Step(
            name,
            "done" if place < at or (place == 1 and job.gradients_reused) else "now" if place == at else "next",
            note,
        )
        for place, (name, note) in enumerate(zip(STEPS, notes, strict=True))
    ]


def headline(job: JobRead) -> str:
    """One sentence on where a job stands, for the page and for those who listen to it."""
    if job.status == "succeeded" and job.result is not None:
        return f"Done: {number(job.result['selected'])} of {number(job.result['pool'])} rows selected"
    if job.status == "failed":
        return f"Failed: {job.error.title if job.error else 'see below'}"
    if job.status in {"cancelled", "expired"}:
        word = "Cancelled" if job.status == "cancelled" else "The deadline passed"
        return (
            f"{word}; what was selected by then is kept"
            if job.result is not None
            else f"{word}; nothing was selected yet"
        )
    if job.status == "cancelling":
        return "Stopping; what has been selected is kept"
    if job.queue is not None:
        return f"{phase(job.queue.reason)}, number {number(job.queue.position)} in the queue"
    return phase(job.phase) or job.status.capitalize()


def excerpt(text: str, most: int = 700) -> str:
    """The beginning of a text, cut at a word where there is one near."""
    text = text.strip()
    if len(text) <= most:
        return text
    return text[:most].rsplit(maxsplit=1)[0] + " \N{HORIZONTAL ELLIPSIS}"
