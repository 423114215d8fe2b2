"""Verdicts follow from the numbers, and an instrument that was not seen to see says so."""

from __future__ import annotations

import pytest

from spice_select.evaluation.statistics import Interval
from spice_select.evaluation.verdict import Comparison, PowerCheck, judge


def between(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95)


def against(name: str, low: float, high: float, **groups: Interval) -> Comparison:
    return Comparison("spice", name, between(low, high), groups)


SEES = [
    PowerCheck("training", "training helps", between(0.1, 0.2)),
    PowerCheck("junk", "junk loses", between(0.3, 0.4)),
]


@pytest.mark.parametrize(
    ("random", "tokens", "outcome", "first"),
    [
        (
            (0.01, 0.03),
            (0.02, 0.04),
            "better",
            "Better than random: trained on spice, the held-out loss is 0.0200 nats",
        ),
        ((0.01, 0.03), (-0.01, 0.04), "no_difference", "No difference to random could be shown"),
        ((0.01, 0.03), (-0.04, -0.01), "worse", "Random did better"),
        ((-0.03, -0.01), (-0.04, -0.01), "worse", "Random did better: trained on spice, the held-out loss is 0.0200"),
        ((-0.01, 0.01), (-0.02, 0.02), "no_difference", "No difference to random could be shown"),
    ],
    ids=["both", "one", "against-one", "neither", "around-zero"],
)
def test_the_outcome(random: tuple[float, float], tokens: tuple[float, float], outcome: str, first: str) -> None:
    verdict = judge(SEES, [against("random", *random), against("random_tokens", *tokens)])
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(first)


def test_the_sentence_gives_the_interval_in_the_direction_it_names() -> None:
    worse = judge(SEES, [against("random", -0.03, -0.01)]).sentence
    assert "0.0200 nats per token higher than with random (95 % interval +0.0100 to +0.0300)" in worse
    open_end = judge(SEES, [against("random", -0.01, 0.03)]).sentence
    assert "0.0100 nats per token lower than with random (95 % interval -0.0100 to +0.0300)" in open_end
    assert "more than 0.0200 nats would have been seen" in open_end


def test_groups_that_differ_are_named() -> None:
    verdict = judge(
        SEES, [against("random", -0.01, 0.03, code=between(0.01, 0.03), math=between(-0.4, -0.2), x=between(-1, 1))]
    )
    assert verdict.sentence.endswith("By group against random: code lower by 0.0200, math higher by 0.3000.")


WEAK = PowerCheck("junk", "junk loses", between(-0.01, 0.4))


@pytest.mark.parametrize(
    ("checks", "low", "high"),
    [
        ([], 0.5, 0.6),
        ([SEES[0], WEAK], 0.1, 0.6),
        ([WEAK], 0.5, 0.6),
        ([SEES[0], PowerCheck("junk", "junk loses", between(-0.2, -0.1))], 0.5, 0.6),
        ([PowerCheck("training", "training helps", between(-0.1, 0.2)), SEES[1]], 0.5, 0.6),
    ],
    ids=["none", "weak-and-not-far", "nothing-seen", "the-wrong-way", "training-does-nothing"],
)
def test_an_experiment_that_does_not_see_gives_no_ranking(checks: list[PowerCheck], low: float, high: float) -> None:
    verdict = judge(checks, [against("random", low, high)])
    assert verdict.outcome == "cannot_tell"
    assert verdict.sentence.startswith("Cannot tell: ")
    assert f"{(low + high) / 2:.4f}" not in verdict.sentence


def test_one_weak_planting_does_not_hide_a_difference_far_from_zero() -> None:
    better = judge([SEES[0], WEAK], [against("random", 0.5, 0.6), against("random_length", 0.3, 0.4)])
    assert better.outcome == "better"
    assert better.sentence.endswith("does not see that junk loses, so a smaller difference could have been missed.")
    assert (
        judge([SEES[0], WEAK], [against("random", -0.6, -0.5), against("random_length", 0.3, 0.4)]).outcome == "worse"
    )
    near = [against("random", 0.5, 0.6), against("random_length", 0.05, 0.4)]
    assert judge([SEES[0], WEAK], near).outcome == "cannot_tell"


def test_without_a_random_control_there_is_no_verdict() -> None:
    assert judge(SEES, []).outcome == "cannot_tell"
