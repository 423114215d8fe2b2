"""The whole instrument on a real model: it sees what must be seen, leaves the model alone and repeats to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import spice_select as ss
from spice_select.errors import ConfigError
from spice_select.evaluation.experiment import Arm, result_of, run_experiment, run_training, standard_arms
from spice_select.evaluation.hold_out import split
from spice_select.evaluation.settings import EvaluationConfig, TrainingConfig
from spice_select.evaluation.training import losses_of, schedule_of
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer

BUNDLED = Path(__file__).parents[3] / "examples" / "bundled.jsonl"
FAST = EvaluationConfig(training=TrainingConfig(epochs=2, batch_rows=8, learning_rate=3e-3), seeds=2)


class EvaluationDataset:
    """The bundled rows without their plantings, split."""

    def __init__(self) -> None:
        rows = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["label"] == "clean"]
        cut = split([row["instruction"] + row["output"] for row in rows], count=60, groups=[r["group"] for r in rows])
        examples = ss.load_examples(rows, build_tiny_tokenizer(), max_length=128)
        self.pool, self.held_out = ([examples[row] for row in part] for part in (cut.pool, cut.held_out))
        self.groups, self.held_groups = ([rows[row]["group"] for row in part] for part in (cut.pool, cut.held_out))
        self.tokens = [len(example.input_ids) for example in self.pool]


@pytest.fixture(scope="module")
def material() -> EvaluationDataset:
    return EvaluationDataset()


def experiment(material: EvaluationDataset, config: EvaluationConfig, rows: list[int], model: Any = None) -> Any:
    return run_experiment(
        model or build_tiny_model(),
        material.pool,
        material.held_out,
        standard_arms("chosen", rows, tokens=material.tokens, groups=material.groups, config=config),
        config,
        count=len(rows),
        held_out_groups=material.held_groups,
    )


def test_it_sees_training_and_plantings_and_a_choice_of_the_shortest_rows_loses(material: EvaluationDataset) -> None:
    shortest = sorted(range(len(material.pool)), key=lambda row: material.tokens[row])[:60]
    model = build_tiny_model()
    before = losses_of(model, material.held_out)
    found = experiment(material, replace_seeds(FAST, 3), shortest, model)
    assert {check.name: check.passed for check in found.checks} == {"training": True, "junk": True, "one_group": True}
    assert found.verdicts["chosen"].outcome == "worse"
    assert torch.equal(losses_of(model, material.held_out), before)
    assert torch.allclose(found.base, before, rtol=1e-5)  # padded into other batches
    assert [arm.name for arm in found.arms] == [
        "chosen", "random", "random_tokens", "random_length", "random_group", "stratified", "full", "junk",
        "one_group",
    ]  # fmt: skip
    assert {spent.steps for arm in found.arms for spent in arm.spent} == {15}
    wanted = 15 * found.schedule.tokens
    assert all(abs(spent.tokens - wanted) <= 128 for arm in found.arms for spent in arm.spent)
    assert found.arm("chosen").tokens[0] == found.arm("chosen").tokens[1] == sum(material.tokens[r] for r in shortest)
    assert found.arm("random").losses[0].tolist() != found.arm("random").losses[1].tolist()


def replace_seeds(config: EvaluationConfig, seeds: int) -> EvaluationConfig:
    return config.model_copy(update={"seeds": seeds})


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_it_repeats_to_the_bit(material: EvaluationDataset, tuning: str) -> None:
    training = FAST.training.model_copy(update={"tuning": tuning, "epochs": 0.5})
    config = FAST.model_copy(update={"training": training, "controls": ("random",), "plantings": ()})
    one, two = (experiment(material, config, list(range(40))) for _ in range(2))
    for mine, theirs in zip(one.arms, two.arms, strict=True):
        assert torch.equal(mine.losses, theirs.losses)
    assert one.comparisons == two.comparisons
    assert one.verdicts["chosen"].outcome == "cannot_tell"  # nothing was planted and nothing trained on everything


def test_an_untrainable_model_cannot_tell(material: EvaluationDataset) -> None:
    training = FAST.training.model_copy(update={"learning_rate": 1e-9, "epochs": 0.5})
    config = FAST.model_copy(update={"training": training, "controls": ("random", "full")})
    found = experiment(material, config, list(range(40)))
    assert found.verdicts["chosen"].outcome == "cannot_tell"


def test_what_cannot_be_compared_is_refused(material: EvaluationDataset) -> None:
    twice = [Arm("same", "choice", lambda _seed: [0, 1]), Arm("same", "control", lambda _seed: [2, 3])]
    with pytest.raises(ConfigError, match="same name"):
        run_experiment(build_tiny_model(), material.pool, material.held_out, twice, FAST, count=2)
    with pytest.raises(ConfigError, match="two held-out rows"):
        run_experiment(build_tiny_model(), material.pool, material.held_out[:1], twice[:1], FAST, count=2)


def test_groups_of_one_plant_no_group(material: EvaluationDataset) -> None:
    arms = standard_arms("x", [0, 1], tokens=[5, 6, 7], groups=["a", "a", "a"], config=FAST)
    assert [arm.name for arm in arms] == ["x", "random", "random_tokens", "random_length", "full", "junk"]
    assert [len(arm.rows(0)) for arm in arms] == [2, 2, 2, 2, 3, 2]


def test_trainings_run_apart_and_in_any_order_are_those_of_the_experiment(material: EvaluationDataset) -> None:
    training = FAST.training.model_copy(update={"epochs": 0.2})
    config = FAST.model_copy(update={"training": training, "controls": ("random",), "plantings": ("junk",)})
    rows = list(range(20))
    whole = experiment(material, config, rows)
    arms = standard_arms("chosen", rows, tokens=material.tokens, groups=material.groups, config=config)
    mean = sum(material.tokens) / len(material.tokens)
    schedule = schedule_of(config.training, count=len(rows), mean_tokens=mean)
    model = build_tiny_model()
    apart = {
        (arm.name, turn): run_training(model, material.pool, material.held_out, arm, config, schedule, turn=turn)
        for arm in reversed(arms)
        for turn in (1, 0)
    }
    for arm in whole.arms:
        mine = result_of(arm.name, arm.role, [apart[arm.name, turn] for turn in (0, 1)])
        assert torch.equal(mine.losses, arm.losses)
        assert (mine.rows, mine.tokens, mine.spent) == (arm.rows, arm.tokens, arm.spent)
