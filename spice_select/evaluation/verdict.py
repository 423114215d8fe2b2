"""What follows from the numbers, in words.

An experiment that is not seen to see anything gives no ranking. One planted control that is weak does not hide a
difference that is far from zero: the verdict then says both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from spice_select.evaluation.statistics import Interval

FAR = 1.5
"""Half widths of its interval between zero and a mean that is far from it: of a 95 % interval three standard errors."""
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
        checks: What the experiment must be able to see. Without any it is not known to see anything.
        against_random: The choice against each random control; better means better than every one of them, worse
            means worse than one of them.
    """
    unseen = [check for check in checks if not check.passed]
    why = _blind(checks, unseen, against_random)
    if why:
        return Verdict(
            "cannot_tell",
            f"Cannot tell: {why}. No ranking follows. More steps, seeds or held-out rows may help, or a model that "
            "learns more from this data.",
        )
    signs = [comparison.interval.sign for comparison in against_random]
    told = " and ".join(_told(comparison) for comparison in against_random)
    rest = _told_groups(against_random[0]) + _told_unseen(unseen)
    choice = against_random[0].choice
    if min(signs) < 0:
        return Verdict("worse", f"Random did better: trained on {choice}, the held-out loss is {told}.{rest}")
    if min(signs) > 0:
        return Verdict("better", f"Better than random: trained on {choice}, the held-out loss is {told}.{rest}")
    seen = max(comparison.interval.half_width for comparison in against_random)
    return Verdict(
        "no_difference",
        f"No difference to random could be shown: trained on {choice}, the held-out loss is {told}. A difference of "
        f"more than {seen:.4f} nats would have been seen.{rest}",
    )


def _blind(
    checks: Sequence[PowerCheck], unseen: Sequence[PowerCheck], against_random: Sequence[Comparison]
) -> str | None:
    """Why nothing follows, or None where something does."""
    if not against_random:
        return "the choice was compared with no random control"
    if not checks:
        return "nothing shows that this experiment can see a difference"
    if not unseen:
        return None
    weak = all(check.name != "training" and check.interval.sign == 0 for check in unseen)
    if weak and len(unseen) < len(checks) and _is_far(against_random):
        return None
    return "this experiment does not see that " + " or that ".join(check.claim for check in unseen)


def _is_far(against_random: Sequence[Comparison]) -> bool:
    """Whether the verdict rests on differences that a weak planting cannot call into question."""
    intervals = [comparison.interval for comparison in against_random]
    far = [found for found in intervals if abs(found.mean) >= FAR * found.half_width]
    return len(far) == len(intervals) if min(found.sign for found in intervals) > 0 else any(f.sign < 0 for f in far)


def _told_unseen(unseen: Sequence[PowerCheck]) -> str:
    if not unseen:
        return ""
    claims = " or that ".join(check.claim for check in unseen)
    return f" The experiment does not see that {claims}, so a smaller difference could have been missed."


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
