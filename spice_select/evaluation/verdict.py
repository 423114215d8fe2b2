"""What follows from the numbers, in words. An instrument that was not seen to see gives no ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from spice_select.evaluation.statistics import Interval

Outcome = Literal["better", "worse", "no_difference", "cannot_tell"]


@dataclass(frozen=True)
class PowerCheck:
    """A difference that must be there, and whether it was seen.

    Attributes:
        name: ``training`` (everything against the start) or the name of a planting.
        claim: What should be seen, as a clause.
        interval: The difference, nats per token; above zero when it is as it should be.
    """

    name: str
    claim: str
    interval: Interval

    @property
    def passed(self) -> bool:
        """Whether all of the interval is above zero."""
        return self.interval.sign > 0


@dataclass(frozen=True)
class Comparison:
    """A choice against a control.

    Attributes:
        choice: Name of the choice.
        control: Name of the control.
        interval: Loss of the control minus loss of the choice, nats per token; above zero where the choice is better.
        groups: The same in each group of held-out rows, at a level that holds for all of them together.
    """

    choice: str
    control: str
    interval: Interval
    groups: Mapping[str, Interval]


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        outcome: ``better`` or ``worse`` than random, ``no_difference`` that could be shown, or ``cannot_tell``.
        sentence: The same in plain words, with the numbers.
    """

    outcome: Outcome
    sentence: str


def judge(checks: Sequence[PowerCheck], against_random: Sequence[Comparison]) -> Verdict:
    """The verdict on one choice.

    Args:
        checks: What the instrument must be able to see. Without any it is not known to see anything.
        against_random: The choice against each random control; better means better than every one of them, worse
            means worse than one of them.
    """
    blind = [check for check in checks if not check.passed]
    if blind or not checks or not against_random:
        if not against_random:
            why = "the choice was compared with no random control"
        elif not checks:
            why = "nothing shows that this experiment can see a difference"
        else:
            why = "this experiment does not see that " + " or that ".join(check.claim for check in blind)
        return Verdict(
            "cannot_tell",
            f"Cannot tell: {why}. No ranking follows. More steps, seeds or held-out rows may help, or a model that "
            "learns more from this data.",
        )
    signs = [comparison.interval.sign for comparison in against_random]
    told = " and ".join(_told(comparison) for comparison in against_random)
    by_group = _told_groups(against_random[0])
    choice = against_random[0].choice
    if min(signs) < 0:
        return Verdict("worse", f"Random did better: trained on {choice}, the held-out loss is {told}.{by_group}")
    if min(signs) > 0:
        return Verdict("better", f"Better than random: trained on {choice}, the held-out loss is {told}.{by_group}")
    seen = max(comparison.interval.half_width for comparison in against_random)
    return Verdict(
        "no_difference",
        f"No difference to random could be shown: trained on {choice}, the held-out loss is {told}. A difference of "
        f"more than {seen:.4f} nats would have been seen.{by_group}",
    )


def _told(comparison: Comparison) -> str:
    found = comparison.interval
    way = "lower" if found.mean >= 0 else "higher"
    low, high = sorted((found.low, found.high)) if found.mean >= 0 else sorted((-found.low, -found.high))
    level = f"{100 * found.confidence:g}"
    return (
        f"{abs(found.mean):.4f} nats per token {way} than with {comparison.control} "
        f"({level} % interval {low:+.4f} to {high:+.4f})"
    )


def _told_groups(comparison: Comparison) -> str:
    told = [
        f"{name or 'no group'} {'lower' if found.sign > 0 else 'higher'} by {abs(found.mean):.4f}"
        for name, found in comparison.groups.items()
        if found.sign
    ]
    if len(comparison.groups) < 2:
        return ""
    return f" By group against {comparison.control}: {', '.join(told) if told else 'no group differs for sure'}."
