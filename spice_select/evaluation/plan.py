"""An experiment in pieces: a plan, trainings that may run anywhere and in any order, and a report that needs no model.

``run_experiment`` does the same in one go. Plan and losses go through files, so that a piece that was lost is made
again and nothing else is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spice_select.errors import MismatchedShardError
from spice_select.evaluation.dataset import EvaluationDataset
from spice_select.evaluation.experiment import Arm, Experiment, Role, Turn, judged, result_of, standard_arms
from spice_select.evaluation.report import report
from spice_select.evaluation.settings import EvaluationConfig
from spice_select.evaluation.training import losses_of, schedule_of
from spice_select.storage.shards import read_tensors, write_tensors
from spice_select.training.steps import Schedule, Spent

CHOICE = "the choice"
"""What the choice is called among the arms."""
FORMAT = 1
"""Raised whenever a plan or the losses of a training are written or made differently."""


@dataclass(frozen=True)
class Plan:
    """What all trainings share.

    Attributes:
        subject: Digest (hex) of what is evaluated: rows, choice, judges. Without it two choices of one size from one
            pool would have equal plans.
        taken: Places of rows of the pool that nobody trains on.
        arms: Name and role of each arm, in order.
        schedule: How long each is trained.
        base: Loss of each held-out row before training, nats.
        groups: Group of each held-out row.
        facts: What was compared on what, for the report.
    """

    subject: str
    taken: list[int]
    arms: list[tuple[str, Role]]
    schedule: Schedule
    base: list[float]
    groups: list[str]
    facts: dict[str, Any]

    def trainings(self, seeds: int) -> list[tuple[int, int]]:
        """Arm (by its place) and turn of each training: every arm once, then every arm again."""
        return [(arm, turn) for turn in range(seeds) for arm in range(len(self.arms))]

    def json(self) -> str:
        """The plan as text; equal plans are equal texts."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def read(cls, text: str) -> Plan:
        """A plan from its text.

        Args:
            text: What ``json`` made.

        Raises:
            MismatchedShardError: The plan of another version.
        """
        values = json.loads(text)
        if values.pop("format") != FORMAT:
            raise MismatchedShardError("the plan was made by another version")
        arms = [(name, role) for name, role in values.pop("arms")]
        return cls(arms=arms, schedule=Schedule(**values.pop("schedule")), **values)


def arms_of(material: EvaluationDataset, config: EvaluationConfig) -> list[Arm]:
    """The choice with its controls and plantings.

    Args:
        material: What is trained on.
        config: Which controls and plantings.
    """
    return standard_arms(CHOICE, material.chosen, tokens=material.tokens, groups=material.pool_groups, config=config)


def plan_of(
    model: Any,
    material: EvaluationDataset,
    config: EvaluationConfig,
    *,
    subject: str,
    taken: Sequence[int],
    facts: Mapping[str, Any],
) -> Plan:
    """Decide what is trained, and judge the model before any training.

    Args:
        model: A causal language model of transformers.
        material: What is trained on and judged by.
        config: How, how often.
        subject: Digest (hex) of what is evaluated.
        taken: Places of rows that nobody trains on.
        facts: What was compared on what.
    """
    tokens = material.tokens
    schedule = schedule_of(config.training, count=len(material.chosen), mean_tokens=sum(tokens) / len(tokens))
    base = losses_of(model, material.held_out, micro_tokens=config.training.micro_tokens)
    return Plan(
        subject=subject,
        taken=sorted(taken),
        arms=[(arm.name, arm.role) for arm in arms_of(material, config)],
        schedule=schedule,
        base=base.tolist(),
        groups=material.held_out_groups or [""] * len(material.held_out),
        facts=dict(facts),
    )


def report_of(plan: Plan, turns: Mapping[str, Sequence[Turn]], config: EvaluationConfig) -> dict[str, Any]:
    """The report, from the losses of every training.

    Args:
        plan: What was trained.
        turns: Trainings of each arm by its name, in the order of their seeds.
        config: How sure.
    """
    results = [result_of(name, role, turns[name]) for name, role in plan.arms]
    base = torch.tensor(plan.base, dtype=torch.float64)
    experiment = judged(Experiment(base, results, plan.schedule, plan.groups), config.confidence)
    return {**report(experiment, CHOICE), **plan.facts}


def write_training(path: Path, turn: Turn, header: Mapping[str, Any]) -> str:
    """Write what a training led to, but for its seconds: the same training is always the same bytes.

    Args:
        path: Where to; an existing file is replaced.
        turn: The training.
        header: What it was: equal for equal trainings, different for different ones.

    Returns:
        Sha256 (hex) of the file.
    """
    about = {"format": FORMAT, "header": dict(header), "rows": turn.rows, "tokens": turn.tokens}
    losses = np.ascontiguousarray(turn.losses.numpy())
    return write_tensors(path, {"losses": losses}, {**about, "spent": asdict(turn.spent)})


def read_training(path: Path, sha256: str, header: Mapping[str, Any], *, seconds: float) -> Turn:
    """Read what a training led to and check every byte of it.

    Args:
        path: The file.
        sha256: Digest (hex) the file must have.
        header: What it must say it was.
        seconds: What it took.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound file of another training or version.
    """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by read_tensors()
    tensors, about = read_tensors(path, {"losses"}, sha256)
    if about["format"] != FORMAT or about["header"] != dict(header):
        raise MismatchedShardError(f"{path.name} holds the losses of another training or version")
    losses = torch.from_numpy(tensors["losses"])
    return Turn(about["rows"], about["tokens"], Spent(**about["spent"]), seconds, losses)
