"""The paper's loop: against its plain twin, cut and continued anywhere, beside the offline choice from its windows."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spice_select as ss
from spice_select.config import PeriodicSchedule, RunConfig, Tuning, WindowsScope
from spice_select.errors import ConfigError, MismatchedShardError, Stopped
from spice_select.gradients.targets import find_targets
from spice_select.models.lora import adapter_weights, attach
from spice_select.pipeline.run import RunProgress, run
from spice_select.records.packed_examples import TokenPool
from spice_select.records.tokenize import Example
from spice_select.results.result_folder import DATED, STATED
from spice_select.results.verify import verify_folder
from spice_select.selection.baselines import random_order
from spice_select.storage.checkpoints import PROGRESS, CheckpointFolder
from spice_select.training.periodic import Checkpoint, Chosen, as_selection, select_periodically
from tests.fixtures.results import alpaca, jsonl
from tests.library.families import build, float64_throughout, nasty_examples
from tests.reference.periodic import periodic_select

SIZE, EACH = 6, 3


def pool(seed: int, count: int = 27) -> list[Example]:
    rows = nasty_examples(seed, count=count)
    return [row for row in rows if any(label != -100 for label in row.labels[1:])][:count]


def settings(*, steps_every: int | None = 2, **given: Any) -> RunConfig:
    tuning = Tuning(**{"learning_rate": 3e-2, **given.pop("tuning", {})})
    base = {"sketch_dim": None, "dtype": "float64", "normalize": "none", "lora_rank": 2, "lora_alpha": 4.0}
    return RunConfig(
        gradients=ss.GradientConfig(**{**base, **given.pop("gradients", {})}, tuning=tuning),
        schedule=PeriodicSchedule(kind="periodic", steps_every=steps_every),
        selection=ss.SelectionConfig(
            **{
                "budget": ss.Budget(count=14),
                "scope": WindowsScope(kind="windows", size=SIZE, per_window=EACH),
                "alpha": 2.0,
                "conflict_penalty": 0.3,
                "seed": 5,
                **given,
            }
        ),
    )


def windows(count: int, wanted: int, seed: int) -> list[tuple[list[int], int]]:
    """Written out: a shuffled pool, cut into pieces of six, three from each until there are enough."""
    order, found = random_order(count, seed).tolist(), []
    for start in range(0, count, SIZE):
        share = min(EACH, wanted)
        wanted -= share
        if share:
            found.append((sorted(order[start : start + SIZE]), share))
    return found


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
@pytest.mark.parametrize(("weights", "targets"), [("lora", "lora"), ("lora", "linear"), ("full", "linear")])
def test_the_loop_is_the_plain_one_written_down(family: str, weights: str, targets: str) -> None:
    examples = pool(1)
    config = settings(gradients={"targets": targets, "seed": 3}, tuning={"weights": weights, "weight_decay": 0.1})
    model = build(family)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # a step draws it, the plain loop does not
    twin = copy.deepcopy(model)
    if weights == "lora":
        attach(twin, 2, 4.0, 3)
    trained = list(adapter_weights(twin).values()) if weights == "lora" else list(twin.parameters())
    measured = [target.weight for target in find_targets(twin, config.gradients)]
    with float64_throughout():
        expected, losses = periodic_select(
            twin, trained, measured, examples, windows(len(examples), 14, 5), steps_every=2,
            alpha=2.0, penalty=0.3, rate=3e-2, decay=0.1,
        )  # fmt: skip
        found = select_periodically(model, TokenPool(examples), config)
    assert (found.windows, found.stop_reason, len(losses)) == (5, "budget_reached", 2)
    assert [pick.row for pick in found.progress.picks] == [row for window in expected for row in window.rows]
    assert [pick.window for pick in found.progress.picks] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
    gains = [gain for window in expected for gain in window.gains]
    assert np.allclose([pick.gain for pick in found.progress.picks], gains, rtol=2e-5, atol=1e-9)
    conflicts = [conflict for window in expected for conflict in window.conflicts]
    assert np.allclose([pick.conflict for pick in found.progress.picks], conflicts, rtol=0, atol=1e-5)
    assert np.allclose(found.progress.step_losses, losses, rtol=0, atol=1e-7)
    utilities = [window.utility for window in expected]
    assert np.allclose([report.utility for report in found.progress.reports], utilities, rtol=2e-5)
    untuned = select_periodically(build(family), examples, settings(steps_every=None, gradients={"targets": "linear"}))
    tuned_gains = [pick.gain for pick in found.progress.picks]
    assert not np.allclose([pick.gain for pick in untuned.progress.picks], tuned_gains, rtol=1e-3), "steps matter"


def snapshots(config: RunConfig, examples: list[Example]) -> tuple[Chosen, list[Checkpoint]]:
    kept: list[Checkpoint] = []
    chosen = select_periodically(
        build("qwen2"),
        examples,
        config,
        on_window=lambda progress, weights: kept.append(Checkpoint(copy.deepcopy(progress), weights())),
    )
    return chosen, kept


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_continued_after_any_window_it_is_the_same_to_the_last_bit(weights: str) -> None:
    config, examples = settings(steps_every=1, tuning={"weights": weights}), pool(2)
    whole, kept = snapshots(config, examples)
    assert len(kept) == 5
    assert kept[0].weights is not None
    for checkpoint in kept:
        ends: list[Checkpoint] = [checkpoint]
        again = select_periodically(
            build("qwen2"),
            examples,
            config,
            start=copy.deepcopy(checkpoint),
            on_window=lambda progress, weights: ends.append(Checkpoint(copy.deepcopy(progress), weights())),  # ruff: ignore[function-uses-loop-variable]
        )
        assert repr(again) == repr(whole)
        last, expected = ends[-1].weights, kept[-1].weights
        assert last is not None
        assert expected is not None
        assert {name: array.tobytes() for name, array in last.items()} == {
            name: array.tobytes() for name, array in expected.items()
        }


def test_a_stop_keeps_the_windows_that_are_done_and_drops_the_one_in_hand() -> None:
    config, examples = settings(), pool(3)
    whole, _ = snapshots(config, examples)
    for most in range(12):
        asked = 0

        def stop() -> Any:
            nonlocal asked
            asked += 1
            return "deadline" if asked > 3 * most else False  # ruff: ignore[function-uses-loop-variable]

        part = select_periodically(build("qwen2"), examples, config, should_stop=stop)
        done = len(part.progress.reports)
        assert part.progress.picks == whole.progress.picks[: len(part.progress.picks)]
        assert {pick.window for pick in part.progress.picks} == set(range(done))
        assert part.stop_reason == ("deadline" if done < 5 else "budget_reached")


def test_what_the_sum_over_windows_proves() -> None:
    config, examples = settings(), pool(4)
    chosen, _ = snapshots(config, examples)
    places = {row: row for row in range(len(examples))}
    selection = as_selection(chosen, config, places, [len(example.input_ids) for example in examples])
    certificate = selection.certificate
    assert certificate is not None
    assert certificate.bound == "windows"
    assert math.isclose(selection.utility, sum(selection.gains), rel_tol=1e-9)
    assert math.isclose(certificate.ratio, certificate.utility / certificate.upper_bound)
    assert 0.5 < certificate.ratio <= 1.0
    for report in chosen.progress.reports:
        assert report.random_utility <= report.upper_bound + 1e-9
        assert report.utility <= report.upper_bound + 1e-9


def test_a_sample_without_a_gradient_is_left_out_of_its_window() -> None:
    examples = pool(5)
    examples[7] = Example([5, 6, 7], [-100, -100, -100])
    chosen = select_periodically(build("qwen2"), examples, settings())
    lost = chosen.progress.excluded
    assert lost == [{"row": 7, "code": "gradient-zero"}]
    assert 7 not in {pick.row for pick in chosen.progress.picks}
    assert sum(report.size for report in chosen.progress.reports) == len(examples) - 1


# Under unit length all first gains are equal, so that in float32 the rounding of a batch decides the first pick.
@pytest.mark.parametrize(("dtype", "normalize"), [("float64", "unit"), ("float32", "none")])
def test_without_steps_it_is_the_offline_choice_from_the_same_windows(
    tmp_path: Path, dtype: Any, normalize: Any
) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(alpaca(40)))
    gradients = ss.GradientConfig(sketch_dim=16, max_length=64, dtype=dtype, normalize=normalize)
    selection = ss.SelectionConfig(
        budget=ss.Budget(count=12), scope=WindowsScope(kind="windows", size=10), conflict_penalty=0.2, seed=2
    )
    never = PeriodicSchedule(kind="periodic", steps_every=None)
    offline = run(source, RunConfig(gradients=gradients, selection=selection))
    periodic = run(source, RunConfig(gradients=gradients, selection=selection, schedule=never))
    assert [row.source_row for row in periodic.ranking] == [row.source_row for row in offline.ranking]
    assert [row.gain for row in periodic.ranking] == pytest.approx([row.gain for row in offline.ranking], rel=1e-5)
    assert periodic.summary["undecided"] == offline.summary["undecided"]
    assert periodic.summary["schedule"]["steps"] == 0
    assert "schedule" not in offline.summary


def local(source: Path, out: Path | None, cache: Path, **more: Any) -> tuple[Any, list[RunProgress]]:
    config = RunConfig(
        gradients=ss.GradientConfig(
            sketch_dim=8,
            max_length=64,
            targets="lora",
            warmup_steps=2,
            tuning=Tuning(learning_rate=1e-2, step_tokens=64),
        ),
        schedule=PeriodicSchedule(kind="periodic", steps_every=2),
        selection=ss.SelectionConfig(budget=ss.Budget(count=10), scope=WindowsScope(kind="windows", size=8)),
    )
    steps: list[RunProgress] = []
    return run(source, config, out, cache=cache, on_progress=steps.append, **more), steps


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(alpaca(40)))
    whole, steps = local(source, tmp_path / "whole", tmp_path / "cache")
    assert whole.summary["schedule"] == {
        "kind": "periodic", "windows": 5, "windows_done": 5, "steps_every": 2, "steps": 2,
        "first_step_loss": whole.summary["schedule"]["first_step_loss"],
        "last_step_loss": whole.summary["schedule"]["last_step_loss"],
    }  # fmt: skip
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["validating", "loading_model", "warming_up", "choosing_windows", "writing_files"]
    counted = [s.completed for s in steps if s.phase == "choosing_windows"]
    assert counted == sorted(counted)
    assert set(counted) == {0, 8, 16, 24, 32, 40}
    assert verify_folder(tmp_path / "whole", source).ok
    card = (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")
    assert "5 of 5 windows, an optimiser step every 2 windows, 2 in all" in card
    assert "nothing is proven about another course of the tuning" in card

    class Killed(BaseException):
        pass

    for after in (8, 24):
        cache = tmp_path / f"cache-{after}"

        def kill(step: RunProgress) -> None:
            if step.phase == "choosing_windows" and step.completed > after:  # ruff: ignore[function-uses-loop-variable]
                raise Killed

        config = json.loads(json.dumps(whole.statement["predicate"]["buildDefinition"]["externalParameters"]["config"]))
        with pytest.raises(Killed):
            run(source, RunConfig.model_validate(config), None, cache=cache, on_progress=kill)
        resumed, steps = local(source, tmp_path / f"out-{after}", cache)
        counted = {step.completed for step in steps if step.phase == "choosing_windows" and step.total}
        assert counted == set(range(after, 41, 8)), "no window is measured twice"
        for name in set(STATED) - DATED - {"evidence.parquet"}:
            ours, theirs = (tmp_path / folder / name for folder in (f"out-{after}", "whole"))
            assert ours.read_bytes() == theirs.read_bytes(), name
        left = [sorted(path.name for path in (tmp_path / c).rglob("periodic/*/*")) for c in (cache.name, "cache")]
        assert left[0] == left[1] == [PROGRESS, "weights-00000002.safetensors"]
    assert resumed.summary["warmup"] == whole.summary["warmup"]


def test_a_rotten_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(alpaca(40)))
    whole, _ = local(source, None, tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "periodic").iterdir()
    for name in (PROGRESS, "weights-00000002.safetensors"):
        cache = tmp_path / f"rotten-{name}"
        shutil.copytree(tmp_path / "cache", cache)
        path = cache / "periodic" / folder.name / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert CheckpointFolder(path.parent, folder.name).load() is None
    assert CheckpointFolder(folder, "another run").load() is None
    again, steps = local(source, None, cache)
    assert 8 in [step.completed for step in steps if step.phase == "choosing_windows"]
    assert again.ranking == whole.ranking
    done, steps = local(source, None, tmp_path / "cache")
    assert done.gradients_reused
    assert done.ranking == whole.ranking


def test_a_deadline_before_the_first_window_leaves_nothing_and_one_after_it_a_prefix(tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(alpaca(40)))
    whole, _ = local(source, None, tmp_path / "cache")
    config = RunConfig.model_validate(whole.statement["predicate"]["buildDefinition"]["externalParameters"]["config"])
    stop = False

    def watch(step: RunProgress) -> None:
        nonlocal stop
        stop = stop or (step.phase == "choosing_windows" and step.completed > 16)  # of the third window

    part = run(source, config, tmp_path / "out", on_progress=watch, should_stop=lambda: stop)
    assert part.selection.partial
    assert part.summary["stop_reason"] == "cancelled"
    assert part.summary["schedule"]["windows_done"] == 2
    assert [row.source_row for row in part.ranking] == [row.source_row for row in whole.ranking][: len(part.ranking)]
    assert verify_folder(tmp_path / "out", source).ok
    with pytest.raises(Stopped):
        run(source, config, should_stop=lambda: (tmp_path / "out").exists() and stop)


def test_it_needs_windows_and_a_checkpoint_of_its_own_model(tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(alpaca(12)))
    schedule = PeriodicSchedule(kind="periodic")
    with pytest.raises(ConfigError, match="needs the scope windows") as refused:
        run(source, RunConfig(schedule=schedule, selection=ss.SelectionConfig(budget=ss.Budget(count=3))))
    assert refused.value.errors[0]["pointer"] == "#/selection/scope"
    _, kept = snapshots(settings(steps_every=1), pool(2))
    with pytest.raises(MismatchedShardError):
        select_periodically(build("gpt2"), pool(2), settings(steps_every=1), start=kept[1])


def test_packed_examples_come_back_as_they_were() -> None:
    examples = [row for row in nasty_examples(9) if row.input_ids]
    examples[-1] = Example(examples[-1].input_ids, examples[-1].input_ids)
    packed = TokenPool(examples)
    assert list(packed) == packed[:] == examples
    assert packed.lengths() == [len(example.input_ids) for example in examples]
    with pytest.raises(IndexError):
        packed[len(examples)]


def test_gradients_are_taken_in_their_own_type_and_the_model_is_tuned_in_full() -> None:
    config = settings(steps_every=1, gradients={"dtype": "bfloat16"}, tuning={"learning_rate": 1e-4})
    model, kept = build("qwen2", dtype=torch.float32), list[Any]()
    select_periodically(model, pool(6), config, on_window=lambda _, weights: kept.append(weights()))
    assert {str(array.dtype) for array in kept[0].values()} == {"float32"}
    changed = [name for name in kept[0] if not np.array_equal(kept[0][name], kept[-2][name])]
    assert any(name.startswith("weights.") for name in changed)
