"""What the page of a job shows of the evaluations of its choice: verdicts and intervals. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERDICTS = {
    "better": "Better than random",
    "worse": "Random did better",
    "no_difference": "No difference to random shown",
    "cannot_tell": "Cannot tell",
}
MOST_GROUPS = 12
MARGIN = 0.06
"""Share of the drawn width that is left free on each side."""


@dataclass(frozen=True)
class Row:
    """How much lower the held-out loss is with the choice than with a control, in nats per token.

    Attributes:
        name: The control, or the group.
        mean: The difference; above zero where the choice is better.
        low: Lower end of its interval.
        high: Upper end.
        left: Lower end as drawn, in percent of the width.
        middle: The difference as drawn.
        right: Upper end as drawn.
        kind: ``better``, ``worse`` or ``open``, by where all of the interval is.
    """

    name: str
    mean: float
    low: float
    high: float
    left: float
    middle: float
    right: float
    kind: str

    @property
    def width(self) -> float:
        """Width of the interval as drawn, in percent; wide enough to be seen."""
        return round(max(self.right - self.left, 0.4), 2)


@dataclass(frozen=True)
class Forest:
    """Intervals drawn beside each other on one scale.

    Attributes:
        controls: The choice against each control, over all held-out rows.
        groups: The choice against the first control, within each group of held-out rows.
        against: That control.
        zero: Where no difference is, in percent of the width.
        confidence: Level of the intervals, in percent.
    """

    controls: list[Row]
    groups: list[Row]
    against: str
    zero: float
    confidence: float


def forest(result: dict[str, Any]) -> Forest | None:
    """The intervals of a report; None where it compares with nothing.

    Args:
        result: The report.
    """
    comparisons = result.get("comparisons") or []
    if not comparisons:
        return None
    inside = list(comparisons[0]["groups"].items())
    # One group says what all rows say.
    named = [(name or "(no group)", entry) for name, entry in inside[:MOST_GROUPS]] if len(inside) > 1 else []
    everything = [*((entry["control"], entry) for entry in comparisons), *named]
    low = min(0.0, *(entry["low"] for _, entry in everything))
    high = max(0.0, *(entry["high"] for _, entry in everything))
    span = (high - low) or 1.0
    start, width = low - MARGIN * span, (1 + 2 * MARGIN) * span

    def row(name: str, entry: dict[str, Any]) -> Row:
        left, middle, right = (round(100 * (entry[end] - start) / width, 2) for end in ("low", "mean", "high"))
        kind = "better" if entry["low"] > 0 else "worse" if entry["high"] < 0 else "open"
        return Row(name, entry["mean"], entry["low"], entry["high"], left, middle, right, kind)

    return Forest(
        controls=[row(entry["control"].replace("_", " of equal "), entry) for entry in comparisons],
        groups=[row(name, entry) for name, entry in named],
        against=comparisons[0]["control"],
        zero=round(100 * (0 - start) / width, 2),
        confidence=100 * comparisons[0]["confidence"],
    )
