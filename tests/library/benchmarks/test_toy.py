"""The published comparison says what was measured, and what was measured is what the library's instrument says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from tokenizers import pre_tokenizers

import spice_select as ss
from benchmarks.toy.models import Architecture, Size, make_tokenizer, pretrained
from benchmarks.toy.render import plot, report, shell
from benchmarks.toy.stages import Judges, stage_of, trained
from spice_select.evaluation.experiment import run_experiment, standard_arms
from spice_select.evaluation.settings import EvaluationConfig, TrainingConfig
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer

FOLDER = Path(__file__).parents[3] / "benchmarks" / "toy"
BUNDLED = Path(__file__).parents[3] / "examples" / "bundled.jsonl"


def test_the_report_is_written_from_the_figures() -> None:
    found = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == report(found)
    for stage in found["stages"]:
        assert (FOLDER / f"{stage['model']}.svg").read_text(encoding="utf-8") == plot(stage)


def test_a_verdict_follows_its_interval() -> None:
    found = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    for arm in (arm for stage in found["stages"] for arm in stage["arms"] if arm["advantage"] is not None):
        low, high = arm["advantage"]["low"], arm["advantage"]["high"]
        assert arm["sign"] == (1 if low > 0 else -1 if high < 0 else 0), arm["name"]


def test_a_comparison_that_was_cut_off_goes_on_and_is_the_experiment_of_the_library(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["label"] == "clean"][:70]
    examples = ss.load_examples(rows, build_tiny_tokenizer(), max_length=128)
    pool, held, others = examples[:40], examples[40:60], examples[60:]
    groups = [row["group"] for row in rows]
    judges = Judges(held, groups[40:60], [("worked answer" if place % 2 else "final answer", e)
                                          for place, e in enumerate(others)])  # fmt: skip
    config = EvaluationConfig(training=TrainingConfig(epochs=1, batch_rows=4, learning_rate=3e-3), seeds=2)
    tokens = [len(example.input_ids) for example in pool]
    arms = standard_arms("spice", [3, 1, 4, 15], tokens=tokens, groups=groups[:40], config=config)
    model = build_tiny_model()
    first = trained(model, pool, judges, arms, config, 4, tmp_path)
    kept = sorted(tmp_path.iterdir())
    kept[0].unlink()
    untouched = {path: path.stat().st_mtime_ns for path in kept[1:]}
    again = trained(model, pool, judges, arms, config, 4, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept[1:]} == untouched
    for before, after in zip(first.arms, again.arms, strict=True):
        assert torch.equal(before.losses, after.losses)
    slower = config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": 1e-4})})
    trained(model, pool, judges, arms[:1], slower, 4, tmp_path)
    assert len(list(tmp_path.iterdir())) == len(kept) + 2, "a training of other settings was taken for this one"

    plain = run_experiment(model, pool, held, arms, config, count=4, held_out_groups=groups[40:60])
    stage = stage_of("proxy", first, judges, {}, 3e-3, {}, config.confidence)
    assert stage["base"] == pytest.approx(float(plain.base.mean()), abs=1e-6)
    for arm in stage["arms"]:
        twin = plain.arm(arm["name"])
        assert arm["loss"] == pytest.approx(float(twin.losses.mean()), abs=1e-6)
        by_group = plain.group_losses(arm["name"])
        assert {name: arm["parts"][name]["loss"] for name in by_group} == pytest.approx(by_group, abs=1e-6)
        assert {"worked answer", "final answer"} == set(arm["parts"]) - set(by_group)
    answers = first.arm("spice").losses[:, len(held) :]
    assert stage["arms"][0]["parts"]["final answer"]["loss"] == pytest.approx(float(answers[:, ::2].mean()))
    assert stage["arms"][0]["verdict"] == plain.verdicts["spice"].sentence


def test_a_long_command_is_broken_between_options() -> None:
    command = "python -m benchmarks.toy " + " ".join(f"--option-{number} {number}" for number in range(12))
    lines = shell(command)
    assert len(lines) > 1
    assert " ".join(line.removesuffix(" \\").strip() for line in lines) == command
    assert all(line.lstrip().startswith("--") for line in lines[1:])


def test_every_model_reads_text_as_it_did_in_training(tmp_path: Path) -> None:
    documents = [json.loads(line)["output"] for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    documents = ["In 1987 she paid  $1,250.\n\n  Then it's 48 + 1024 =\t1072.", *documents[:100]]
    tokenizer = make_tokenizer(documents, 600)
    size = Size(16, 1, 1, 2048)
    for architecture in get_args(Architecture):
        pretrained(documents, tokenizer, size, seed=0, folder=tmp_path / architecture, architecture=architecture)
    # transformers gives a tokenizer beside a Qwen2 model the cut of Qwen2, whatever was saved.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(RuntimeError, match="otherwise"):
        pretrained(documents, tokenizer, size, seed=0, folder=tmp_path / "other")
