"""Training of an arm: what a step holds, the same result as a plain loop, adapters as PEFT makes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from spice_select.errors import Stopped
from spice_select.evaluation.settings import TrainingConfig
from spice_select.evaluation.training import losses_of, schedule_of
from spice_select.models.lora import adapted
from spice_select.models.tiny import build_tiny_model
from spice_select.records.tokenize import IGNORED, Example
from spice_select.training.steps import Schedule, steps_of, train
from tests.reference.evaluation import plain_losses, plain_training


def rows(count: int, seed: int) -> list[Example]:
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        length = int(torch.randint(5, 40, (1,), generator=draw))
        ids = torch.randint(0, 900, (length,), generator=draw).tolist()
        prompt = int(torch.randint(1, length - 1, (1,), generator=draw))
        found.append(Example(ids, [IGNORED] * prompt + ids[prompt:]))
    return found


@pytest.fixture
def model() -> Any:
    return build_tiny_model().double()


@pytest.fixture
def examples(seed: int) -> list[Example]:
    return rows(24, seed)


def test_losses_equal_those_of_one_row_at_a_time(model: Any, examples: list[Example]) -> None:
    fast = losses_of(model, examples, micro_tokens=100)
    assert torch.allclose(fast, torch.tensor(plain_losses(model, examples), dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("match", ["steps", "tokens"])
def test_training_equals_a_plain_loop(model: Any, examples: list[Example], match: Any, seed: int) -> None:
    config = TrainingConfig(match=match, micro_tokens=64, learning_rate=1e-2, weight_decay=0.1, batch_rows=4, epochs=2)
    schedule = schedule_of(config, count=len(examples), mean_tokens=20.0)
    twin = copy.deepcopy(model)
    spent = train(model, list(model.parameters()), examples, schedule, config, seed=seed)
    steps = list(steps_of([len(example.input_ids) for example in examples], schedule, seed))
    plain_training(twin, examples, steps, rate=1e-2, decay=0.1, clip=1.0)
    assert spent.steps == schedule.steps == len(steps) == 12
    assert spent.tokens == sum(len(examples[row].input_ids) for step in steps for row in step)
    assert losses_of(model, examples).mean() < losses_of(build_tiny_model().double(), examples).mean() - 0.1
    assert torch.allclose(losses_of(model, examples), losses_of(twin, examples), rtol=0, atol=1e-7)


def test_training_depends_on_the_seed_alone_and_leaves_the_global_one(examples: list[Example]) -> None:
    config = TrainingConfig(batch_rows=4, epochs=1)
    schedule = schedule_of(config, count=24, mean_tokens=20.0)
    before = torch.random.get_rng_state()
    ends = []
    for seed in (1, 1, 2):
        model = build_tiny_model()
        train(model, list(model.parameters()), examples, schedule, config, seed=seed)
        ends.append(losses_of(model, examples))
        assert not model.training
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_arms_of_short_and_of_long_rows_see_the_same_tokens(seed: int) -> None:
    schedule = Schedule(steps=50, match="tokens", rows=8, tokens=300.0)
    totals = []
    for lengths in ([5] * 400, [90, 110] * 20, [700] * 9):
        steps = list(steps_of(lengths, schedule, seed))
        assert len(steps) == 50
        totals.append(sum(lengths[row] for step in steps for row in step))
    assert abs(totals[0] - 15_000) <= 5
    assert abs(totals[1] - 15_000) <= 110
    assert totals[2] == 50 * 700  # a step has a row at least, so rows longer than a step cost more


def test_every_pass_holds_every_row_once(seed: int) -> None:
    steps = steps_of([3] * 10, Schedule(steps=10, match="steps", rows=4, tokens=0.0), seed)
    stream = [row for step in steps for row in step]
    assert [sorted(stream[start : start + 10]) for start in (0, 10, 20, 30)] == [list(range(10))] * 4
    assert stream[:10] != stream[10:20]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_adapters_train_as_those_of_peft(examples: list[Example], seed: int) -> None:
    peft = pytest.importorskip("peft")
    config = TrainingConfig(tuning="lora", lora_rank=4, lora_alpha=8, batch_rows=4, learning_rate=1e-2, epochs=2)
    schedule = schedule_of(config, count=len(examples), mean_tokens=20.0)
    model, twin = build_tiny_model().double(), build_tiny_model().double()
    wrapped = peft.get_peft_model(twin, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with adapted(model, 4, 8.0, seed) as weights:
        ours = dict(model.named_modules())
        for name, module in wrapped.get_base_model().named_modules():
            if hasattr(module, "lora_A"):
                module.lora_A["default"].weight.data.copy_(ours[name].lora_A["default"].weight)
        assert len(weights) == 2 * sum(hasattr(module, "lora_A") for module in wrapped.modules())
        train(model, list(weights.values()), examples, schedule, config, seed=seed)
        trainable = [weight for weight in wrapped.parameters() if weight.requires_grad]
        train(wrapped.get_base_model(), trainable, examples, schedule, config, seed=seed)
        assert torch.allclose(losses_of(model, examples), losses_of(wrapped.get_base_model(), examples), atol=1e-8)
        assert losses_of(model, examples).mean() < losses_of(build_tiny_model().double(), examples).mean() - 0.01


def test_a_model_gives_its_adapters_back(examples: list[Example], seed: int) -> None:
    model = build_tiny_model()
    before, names = losses_of(model, examples), [name for name, _ in model.named_modules()]
    with adapted(model, 2, 4.0, seed) as weights:
        assert torch.equal(losses_of(model, examples), before)  # B is zero
        with torch.no_grad():
            for weight in weights.values():
                weight.add_(0.1)
        assert not torch.equal(losses_of(model, examples), before)
    assert [name for name, _ in model.named_modules()] == names
    assert torch.equal(losses_of(model, examples), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_stop_ends_the_training(examples: list[Example]) -> None:
    model, asked = build_tiny_model(), iter([False, False, True])
    config = TrainingConfig(batch_rows=4)
    with pytest.raises(Stopped):
        train(
            model,
            list(model.parameters()),
            examples,
            schedule_of(config, count=24, mean_tokens=20.0),
            config,
            seed=0,
            should_stop=lambda: next(asked),
        )
    assert not model.training
