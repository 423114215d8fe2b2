"""One model of the comparison: every arm trained, judged by held-out rows and by the answers of another source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.toy.search_rows import say, write
from benchmarks.toy.search_table import by_label, told
from spice_select.config import digest_of
from spice_select.evaluation.experiment import Arm, Experiment, Turn, judged, result_of, run_training
from spice_select.evaluation.settings import EvaluationConfig
from spice_select.evaluation.statistics import advantage, rows_by_group
from spice_select.evaluation.training import losses_of, schedule_of
from spice_select.records.tokenize import Example
from spice_select.training.steps import Spent


@dataclass(frozen=True)
class Judges:
    """What every trained model is judged by.

    Attributes:
        held: Held-out rows; these alone decide the verdicts.
        groups: Group of each.
        answers: Rows of another source, each with the name of what is learned from it.
    """

    held: list[Example]
    groups: list[str]
    answers: list[tuple[str, Example]]

    @property
    def rows(self) -> list[Example]:
        """Held-out rows, then answers."""
        return [*self.held, *(example for _, example in self.answers)]

    def places(self) -> dict[str, list[int]]:
        """Places in ``rows`` of each group of held-out rows and of each kind of answer."""
        own = len(self.held)
        answers = {label: [own + place for place in here] for label, here in by_label(self.answers).items()}
        return rows_by_group(self.groups) | answers


def trained(
    model: Any,
    pool: Sequence[Example],
    judges: Judges,
    arms: Sequence[Arm],
    config: EvaluationConfig,
    count: int,
    folder: Path,
) -> Experiment:
    """Train every arm for every seed, taking what a folder keeps of an earlier run with the same rows and settings.

    Args:
        model: The model, as it is before tuning.
        pool: Rows that may be trained on.
        judges: What judges; the losses of the experiment are of all of it.
        arms: What to train on.
        config: How, and how often.
        count: Rows in a choice.
        folder: Keeps every training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [len(example.input_ids) for example in pool]
    schedule = schedule_of(config.training, count=count, mean_tokens=sum(lengths) / len(lengths))
    held = [example.input_ids for example in judges.rows]
    results = []
    for number, arm in enumerate(arms):
        turns = []
        for turn in range(config.seeds):
            rows = [int(row) for row in arm.rows(config.seed + turn)]
            key = digest_of([arm.nonsense, turn, config.model_dump(), held, [pool[row].input_ids for row in rows]])
            path = folder / f"{key[:24]}.json"
            if not path.exists():
                done = run_training(model, pool, judges.rows, arm, config, schedule, turn=turn)
                write(path, {**asdict(done), "losses": done.losses.tolist()})
            kept = json.loads(path.read_text(encoding="utf-8"))
            losses = torch.tensor(kept.pop("losses"), dtype=torch.float64)
            turns.append(Turn(**{**kept, "spent": Spent(**kept["spent"]), "losses": losses}))
            say(f"{number * config.seeds + turn + 1}/{len(arms) * config.seeds} {arm.name}")
        results.append(result_of(arm.name, arm.role, turns))
    return Experiment(losses_of(model, judges.rows), results, schedule, judges.groups)


def stage_of(
    name: str,
    experiment: Experiment,
    judges: Judges,
    made: dict[str, Any],
    rate: float,
    rates: dict[str, float],
    confidence: float,
) -> dict[str, Any]:
    """The figures of one model.

    Args:
        name: Of the model.
        experiment: Its losses by all that judges.
        judges: What judges.
        made: How the model came about.
        rate: Its learning rate.
        rates: Losses of the rates that were tried.
        confidence: Of every interval.
    """
    own = len(judges.held)
    results = [
        result_of(arm.name, arm.role, [Turn(r, t, s, sec, loss[:own]) for r, t, s, sec, loss in zip(
            arm.rows, arm.tokens, arm.spent, arm.seconds, arm.losses, strict=True)])
        for arm in experiment.arms
    ]  # fmt: skip
    seen = judged(Experiment(experiment.base[:own], results, experiment.schedule, judges.groups), confidence)
    strict = 1 - (1 - confidence) / max(1, len(seen.verdicts))
    random, everything = seen.arm("random").losses, experiment.arm("random").losses
    places = judges.places()
    arms = []
    for arm in seen.arms:
        against = None if arm.name == "random" else advantage(arm.losses, random, confidence)
        sure = None if against is None else advantage(arm.losses, random, strict)
        losses = experiment.arm(arm.name).losses
        by_part = {}
        for label, here in places.items():
            apart = None if against is None else advantage(losses[:, here], everything[:, here], confidence)
            by_part[label] = {"loss": float(losses[:, here].mean()), "advantage": told(apart)}
        arms.append(
            {
                "name": arm.name,
                "role": arm.role,
                "rows": arm.rows,
                "tokens": arm.tokens,
                "trained_tokens": [spent.tokens for spent in arm.spent],
                "steps": arm.spent[0].steps,
                "seconds": round(sum(arm.seconds) / len(arm.seconds), 1),
                "loss": float(arm.losses.mean()),
                "loss_by_seed": [round(float(value), 5) for value in arm.losses.mean(dim=1)],
                "parts": by_part,
                "advantage": told(against),
                "sign": 0 if against is None else against.sign,
                "sign_all": 0 if sure is None else sure.sign,
                "verdict": seen.verdicts[arm.name].sentence if arm.name in seen.verdicts else None,
            }
        )
    return {
        "model": name,
        "made": made,
        "learning_rate": rate,
        "rates": rates,
        "base": float(seen.base.mean()),
        "base_parts": {label: float(experiment.base[here].mean()) for label, here in places.items()},
        "power": {check.name: [check.interval.low, check.interval.high] for check in seen.checks},
        "can_tell": all(check.passed for check in seen.checks),
        "arms": arms,
    }
