"""The plots of a finished job: series for the script, and the same in words and tables. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from app.services.results.previews import Stretch, spread
from app.ui.labels import number

POINTS = 600
"""Most points of a plot."""
ROWS = 12
"""Most rows of the table beside it."""
USUAL_STOP_RATIO = 0.5
"""The paper's omega, drawn where a job set none."""


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: For the address of its data.
        title: For people.
        caption: What it shows, in words.
        data: Common ``x`` and the ``series``, each ``label``, ``values`` (null where it has none), ``color`` and
            ``kind`` (``line``, ``bars`` or ``dashed``).
    """

    name: str
    title: str
    caption: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Share:
    """One row of a comparison of the choice with the pool; shares between 0 and 1.

    Attributes:
        name: Group or range of lengths.
        pool: Samples of the pool.
        selected: Samples of the choice.
        pool_share: Of the pool.
        selected_share: Of the choice.
        pool_width: Of the longest bar.
        selected_width: Of the longest bar.
        implied: Share of the group that the targets imply; None without targets.
    """

    name: str
    pool: int
    selected: int
    pool_share: float
    selected_share: float
    pool_width: float
    selected_width: float
    implied: float | None = None


def _series(label: str, values: list[float | None], color: str, kind: str) -> dict[str, Any]:
    return {"label": label, "values": values, "color": color, "kind": kind}


def gain_plot(stretches: list[Stretch], result: dict[str, Any], stop_ratio: float | None) -> Plot:
    """Marginal gain against pick, with the line at which the job stops, or would."""
    first, last = result["first_gain"], result["last_gain"]
    ratio = stop_ratio if stop_ratio is not None else USUAL_STOP_RATIO
    line = ratio * first
    caption = f"The first pick gained {number(first)} nats, the last {number(last)}. "
    below = next((stretch for stretch in stretches if stretch.gain <= line), None)
    if stop_ratio is not None:
        caption += f"Dashed: the stop ratio \u03c9 = {number(ratio)}, at {number(line)} nats."
    elif below is not None:
        where = f"pick {number(below.first)}" if below.first == below.last else f"about pick {number(below.first)}"
        caption += f"No stop ratio was set; \u03c9 = {number(ratio)} (dashed) would have stopped it at {where}."
    else:
        caption += f"No stop ratio was set; \u03c9 = {number(ratio)} (dashed) would not have stopped it."
    series = [
        _series("Gain", [stretch.gain for stretch in stretches], "chosen", "line"),
        _series(f"\u03c9 = {number(ratio)}", [line] * len(stretches), "bound", "dashed"),
    ]
    return Plot("gain", "Marginal gain", caption, {"x": [s.last for s in stretches], "series": series, "unit": "nats"})


def conflict_plot(stretches: list[Stretch], result: dict[str, Any]) -> Plot:
    """Conflict against pick."""
    worst = max(stretches, key=lambda stretch: stretch.worst_conflict)
    caption = f"On average {number(result['mean_conflict'])}"
    if worst.worst_conflict > 0:
        caption += f", at most {number(worst.worst_conflict)} near pick {number(worst.last)}"
    caption += ". Zero is no conflict with the mean gradient of the picks before it, one is the opposite direction."
    single = all(stretch.first == stretch.last for stretch in stretches)
    label = "Conflict" if single else "Largest conflict"
    series = [_series(label, [stretch.worst_conflict for stretch in stretches], "chosen", "bars")]
    return Plot("conflict", "Conflict", caption, {"x": [s.last for s in stretches], "series": series, "unit": ""})


def utility_plot(stretches: list[Stretch], result: dict[str, Any], note: str) -> Plot:
    """Cumulative utility beside a random draw and the proven upper bound.

    Args:
        stretches: The ranking.
        result: The job's result.
        note: Why the gains do not add up to the utility, where they do not.
    """
    chosen: dict[int, float] = {0: 0.0, **{stretch.last: stretch.utility for stretch in stretches}}
    control = result.get("random_control") or {}
    drawn = {0: 0.0, **{int(size): float(utility) for size, utility in control.get("curve") or []}}
    x = sorted({*chosen, *drawn})
    series = [_series("Selected", [chosen.get(at) for at in x], "chosen", "line")]
    count = result["selected"]
    caption = f"The {number(count)} picks hold" if count > 1 else "The only pick holds"
    caption += f" {number(result['utility'])} nats"
    if len(drawn) > 1:
        series.append(_series("Random", [drawn.get(at) for at in x], "pool", "line"))
        caption += f", as many drawn at random {number(control['utility'])}"
    bound = (result.get("certificate") or {}).get("upper_bound")
    if bound is not None:
        series.append(_series(f"Upper bound for {number(result['selected'])}", [bound for _ in x], "bound", "dashed"))
        caption += f"; no selection of this size holds more than {number(bound)}"
    caption += f". {note}" if note else "."
    return Plot("utility", "Utility", caption, {"x": x, "series": series, "unit": "nats"})


def plots(stretches: list[Stretch], result: dict[str, Any], selection: dict[str, Any]) -> list[Plot]:
    """The plots against the pick; none without picks.

    Args:
        stretches: The ranking.
        result: The job's result.
        selection: Its selection settings.
    """
    if not stretches:
        return []
    note, stop_ratio = "", selection.get("stop_ratio")
    if abs(stretches[-1].utility - result["utility"]) > 1e-3 * max(1.0, abs(result["utility"])):
        information = selection.get("information", "logdet")
        note = "The curve adds up gains inside the parts of the pool and ends above the utility."
        if information != "logdet":
            note = f"The curve adds up the gains of the {information} surrogate, which are not the utility."
    return [
        gain_plot(stretches, result, stop_ratio if isinstance(stop_ratio, float) else None),
        utility_plot(stretches, result, note),
        conflict_plot(stretches, result),
    ]


def table(stretches: list[Stretch]) -> list[Stretch]:
    """A few stretches, evenly spread, for those who read; each with the largest conflict since the one before."""
    rows: list[Stretch] = []
    begin = 0
    for shown in spread(stretches, ROWS):
        end = stretches.index(shown, begin) + 1
        rows.append(replace(shown, worst_conflict=max(each.worst_conflict for each in stretches[begin:end])))
        begin = end
    return rows


def shares(counts: list[tuple[str, int, int]]) -> list[Share]:
    """Shares of the choice beside those of the pool.

    Args:
        counts: Name, samples of the pool, samples of the choice.
    """
    pool, selected = sum(count[1] for count in counts), sum(count[2] for count in counts)
    rows = [
        (name, mine, its, mine / pool if pool else 0.0, its / selected if selected else 0.0)
        for name, mine, its in counts
    ]
    longest = max((max(row[3], row[4]) for row in rows), default=0.0) or 1.0
    return [Share(*row, row[3] / longest, row[4] / longest) for row in rows]


def length_shares(composition: dict[str, Any]) -> list[Share]:
    """By length in tokens."""
    lengths = composition.get("tokens") or {}
    edges = lengths.get("edges", [])
    names = [f"{low:,} to {high - 1:,}" if high - low > 1 else f"{low:,}" for low, high in pairwise(edges)]
    return shares(list(zip(names, lengths.get("pool", []), lengths.get("selected", []), strict=True)))


def side_by_side(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, list[Share]]]:
    """What two results are made of, by length and by group where both are counted alike: title and shares.

    The shares of the first stand as those of the choice, those of the second as those of the pool.

    Args:
        first: A result.
        second: Another.
    """
    counted: list[dict[str, dict[str, int]]] = []
    for result in (first, second):
        composition = result.get("composition") or {}
        lengths = {row.name: row.selected for row in length_shares(composition)}
        found = {"Length in tokens": lengths} if lengths else {}
        if groups := composition.get("groups"):
            found[groups["column"]] = {group["name"] or "(empty)": group["selected"] for group in groups["groups"]}
        counted.append(found)
    mine, its = counted
    return [
        (title, shares([(n, its[title].get(n, 0), mine[title].get(n, 0)) for n in {**mine[title], **its[title]}]))
        for title in mine
        if title in its
    ]


def group_shares(composition: dict[str, Any], selected: int, pool: int) -> tuple[str, list[Share]] | None:
    """Column and shares by its values; None where no column names groups. Rarer groups are put together."""
    groups = composition.get("groups")
    if not groups:
        return None
    counts = [(group["name"] or "(empty)", group["pool"], group["selected"]) for group in groups["groups"]]
    rest = pool - sum(count[1] for count in counts), selected - sum(count[2] for count in counts)
    if rest[0] > 0:
        counts.append(("(others)", *rest))
    implied = {group["name"] or "(empty)": group.get("implied") for group in groups["groups"]}
    return groups["column"], [replace(share, implied=implied.get(share.name)) for share in shares(counts)]
