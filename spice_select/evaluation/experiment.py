"""One model, one pool, one hold-out: every arm trained from the same start, every difference with its interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from spice_select.errors import ConfigError
from spice_select.evaluation.controls import (
    group_matched_rows,
    length_matched_rows,
    one_group_rows,
    random_rows,
    random_rows_of_tokens,
    stratified_rows,
    with_nonsense,
)
from spice_select.evaluation.settings import EvaluationConfig, TrainingConfig
from spice_select.evaluation.statistics import advantage, advantage_by_group, loss_by_group
from spice_select.evaluation.training import losses_of, schedule_of
from spice_select.evaluation.verdict import Comparison, PowerCheck, Verdict, judge
from spice_select.models.lora import adapted, whole
from spice_select.records.tokenize import Example
from spice_select.training.steps import Schedule, Spent, train

Role = Literal["choice", "control", "planting"]
RANDOM = ("random", "random_tokens", "random_length")
"""Controls that decide the verdict."""
CLAIMS = {
    "junk": "random rows with nonsense for responses train worse than random rows",
    "one_group": "rows of the largest group alone train worse than random rows",
}


@dataclass(frozen=True)
class Arm:
    """Something to train on.

    Attributes:
        name: Its name.
        role: A choice that is judged, a control, or a planting that must lose.
        rows: Rows of the pool for a seed.
        nonsense: Whether their responses are replaced by nonsense.
    """

    name: str
    role: Role
    rows: Callable[[int], Sequence[int]]
    nonsense: bool = False


@dataclass(frozen=True)
class Turn:
    """One training of an arm.

    Attributes:
        rows: Rows it was trained on.
        tokens: Tokens in those rows, each row counted once.
        spent: Steps and tokens of the training.
        seconds: Time of the training and of the losses after it.
        losses: Mean loss of the learned tokens of each held-out row, float64 of shape (N,), nats.
    """

    rows: int
    tokens: int
    spent: Spent
    seconds: float
    losses: torch.Tensor


@dataclass(frozen=True)
class ArmResult:
    """What became of an arm; lists hold one entry for each seed.

    Attributes:
        name: Its name.
        role: Its role.
        rows: Rows it was trained on.
        tokens: Tokens in those rows, each row counted once.
        spent: Steps and tokens of the training.
        seconds: Time of the training.
        losses: Mean loss of the learned tokens of each held-out row, float64 of shape (S, N), nats.
    """

    name: str
    role: Role
    rows: list[int]
    tokens: list[int]
    spent: list[Spent]
    seconds: list[float]
    losses: torch.Tensor


@dataclass(frozen=True)
class Experiment:
    """Everything that was measured.

    Attributes:
        base: Loss of each held-out row before training, float64 of shape (N,), nats.
        arms: Every arm, in the order given.
        schedule: How long each was trained.
        groups: Group of each held-out row.
        checks: What the instrument must see.
        comparisons: Every choice against every control.
        verdicts: The verdict on each choice.
    """

    base: torch.Tensor
    arms: list[ArmResult]
    schedule: Schedule
    groups: list[str]
    checks: list[PowerCheck] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def arm(self, name: str) -> ArmResult:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def group_losses(self, name: str) -> dict[str, float]:
        """Mean loss of each group of held-out rows under an arm, or before training (``base``), nats."""
        losses = self.base.unsqueeze(0) if name == "base" else self.arm(name).losses
        return dict(loss_by_group(losses, self.groups))


def standard_arms(
    name: str,
    rows: Sequence[int],
    *,
    tokens: Sequence[int],
    groups: Sequence[str] | None,
    config: EvaluationConfig,
) -> list[Arm]:
    """A choice with the controls and plantings of the settings.

    Args:
        name: Name of the choice.
        rows: Its rows of the pool.
        tokens: Tokens of every row of the pool.
        groups: Group of every row of the pool; without any, controls and plantings that need them are left out.
        config: Which controls and plantings.
    """
    size, count = len(tokens), len(rows)
    budget = sum(tokens[row] for row in rows)
    chosen = list(rows)
    arms = [Arm(name, "choice", lambda _seed: chosen)]
    several = groups is not None and len(set(groups)) > 1
    for control in config.controls:
        if control == "random":
            arms.append(Arm("random", "control", lambda seed: random_rows(size, count, seed)))
        elif control == "random_tokens":
            # Another draw than that of `random`, or the two would share most rows.
            draw = lambda seed: random_rows_of_tokens(tokens, budget, seed + 500_009)  # ruff: ignore[lambda-assignment]
            arms.append(Arm("random_tokens", "control", draw))
        elif control == "random_length":
            matched = lambda seed: length_matched_rows(tokens, chosen, seed + 700_001)  # ruff: ignore[lambda-assignment]
            arms.append(Arm("random_length", "control", matched))
        elif control == "random_group" and several:
            assert groups is not None
            arms.append(Arm("random_group", "control", lambda seed: group_matched_rows(groups, chosen, seed + 900_001)))
        elif control == "stratified" and several:
            assert groups is not None
            arms.append(Arm("stratified", "control", lambda seed: stratified_rows(groups, count, seed)))
        elif control == "full":
            arms.append(Arm("full", "control", lambda _seed: range(size)))
    if "junk" in config.plantings:
        arms.append(Arm("junk", "planting", lambda seed: random_rows(size, count, seed), nonsense=True))
    if "one_group" in config.plantings and several:
        assert groups is not None
        if one_group_rows(groups, count, 0) is not None:
            arms.append(Arm("one_group", "planting", lambda seed: one_group_rows(groups, count, seed) or []))
    return arms


def run_experiment(
    model: Any,
    pool: Sequence[Example],
    held_out: Sequence[Example],
    arms: Sequence[Arm],
    config: EvaluationConfig,
    *,
    count: int,
    held_out_groups: Sequence[str] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Experiment:
    """Train every arm for every seed and judge the choices.

    Args:
        model: A causal language model of transformers; afterwards it is as it was.
        pool: Rows that may be trained on.
        held_out: Rows that no arm is trained on, two at least.
        arms: What to train on; names must differ.
        config: How, how often, how sure.
        count: Rows in a choice, k; fixes how long all arms are trained.
        held_out_groups: Group of each held-out row.
        on_progress: Told the name of the next arm, trainings done and trainings in all.
        should_stop: Asked before every step.

    Raises:
        ConfigError: Two arms of one name, or fewer than two held-out rows.
    """
    if len({arm.name for arm in arms}) < len(arms):
        raise ConfigError("two arms have the same name")
    if len(held_out) < 2:
        raise ConfigError("an interval needs two held-out rows at least", pointer="#/hold_out")
    lengths = [len(example.input_ids) for example in pool]
    schedule = schedule_of(config.training, count=count, mean_tokens=sum(lengths) / len(lengths))
    micro = config.training.micro_tokens
    base = losses_of(model, held_out, micro_tokens=micro)
    total = len(arms) * config.seeds
    turns: dict[str, list[Turn]] = {arm.name: [] for arm in arms}
    for number, arm in enumerate(arms):
        for turn in range(config.seeds):
            if on_progress is not None:
                on_progress(arm.name, number * config.seeds + turn, total)
            found = run_training(model, pool, held_out, arm, config, schedule, turn=turn, should_stop=should_stop)
            turns[arm.name].append(found)
    if on_progress is not None:
        on_progress("", total, total)
    groups = list(held_out_groups) if held_out_groups is not None else [""] * len(held_out)
    results = [result_of(arm.name, arm.role, turns[arm.name]) for arm in arms]
    return judged(Experiment(base, results, schedule, groups), config.confidence)


def run_training(
    model: Any,
    pool: Sequence[Example],
    held_out: Sequence[Example],
    arm: Arm,
    config: EvaluationConfig,
    schedule: Schedule,
    *,
    turn: int,
    should_stop: Callable[[], bool] | None = None,
) -> Turn:
    """Train one arm once; depends on nothing but its arguments, so turns may run anywhere and in any order.

    Args:
        model: A causal language model of transformers; afterwards it is as it was.
        pool: Rows that may be trained on.
        held_out: Rows that no arm is trained on.
        arm: What to train on.
        config: How.
        schedule: How long.
        turn: Which of the arm's trainings, counted from 0.
        should_stop: Asked before every step.

    Raises:
        ConfigError: The training diverged: a held-out loss is not finite.
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - the second is raised by the training
    seed = config.seed + turn
    rows = [int(row) for row in arm.rows(seed)]
    examples = [pool[row] for row in rows]
    tokens = sum(len(example.input_ids) for example in examples)
    if arm.nonsense:
        examples = with_nonsense(examples, seed)
    began = time.monotonic()
    spent, losses = _trained(model, examples, held_out, schedule, config.training, seed, should_stop)
    if not bool(torch.isfinite(losses).all()):
        raise ConfigError(
            f"the training on {arm.name} with seed {seed} diverged: held-out losses are not finite; a lower "
            "learning_rate may help",
            pointer="#/training/learning_rate",
        )
    return Turn(len(rows), tokens, spent, time.monotonic() - began, losses)


def result_of(name: str, role: Role, turns: Sequence[Turn]) -> ArmResult:
    """What became of an arm, from its trainings in the order of their seeds."""
    return ArmResult(
        name,
        role,
        rows=[turn.rows for turn in turns],
        tokens=[turn.tokens for turn in turns],
        spent=[turn.spent for turn in turns],
        seconds=[turn.seconds for turn in turns],
        losses=torch.stack([turn.losses for turn in turns]),
    )


def judged(experiment: Experiment, confidence: float) -> Experiment:
    """The checks, comparisons and verdicts that follow from the losses.

    Args:
        experiment: The losses of every arm.
        confidence: Of every interval.
    """
    arms = {arm.name: arm for arm in experiment.arms}
    checks: list[PowerCheck] = []
    if "full" in arms:
        start = experiment.base.expand_as(arms["full"].losses)
        claim = "training on the whole pool lowers the held-out loss"
        checks.append(PowerCheck("training", claim, advantage(arms["full"].losses, start, confidence)))
    for arm in experiment.arms:
        if arm.role == "planting" and "random" in arms:
            seen = advantage(arms["random"].losses, arm.losses, confidence)
            checks.append(PowerCheck(arm.name, CLAIMS.get(arm.name, f"{arm.name} trains worse than random rows"), seen))
    comparisons, verdicts = [], {}
    for choice in experiment.arms:
        if choice.role != "choice":
            continue
        mine = [
            Comparison(
                choice.name,
                control.name,
                advantage(choice.losses, control.losses, confidence),
                advantage_by_group(choice.losses, control.losses, experiment.groups, confidence),
            )
            for control in experiment.arms
            if control.role == "control"
        ]
        comparisons += mine
        verdicts[choice.name] = judge(checks, [one for one in mine if one.control in RANDOM])
    return Experiment(
        experiment.base, experiment.arms, experiment.schedule, experiment.groups, checks, comparisons, verdicts
    )


def _trained(
    model: Any,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    schedule: Schedule,
    config: TrainingConfig,
    seed: int,
    should_stop: Callable[[], bool] | None,
) -> tuple[Spent, torch.Tensor]:
    """Train on some rows, take the held-out losses, put the model back."""
    lora = config.tuning == "lora"
    with adapted(model, config.lora_rank, config.lora_alpha, seed) if lora else whole(model) as weights:
        spent = train(model, list(weights.values()), examples, schedule, config, seed=seed, should_stop=should_stop)
        return spent, losses_of(model, held_out, micro_tokens=config.micro_tokens)
