"""Hook gradients against plain autograd, one sample at a time, in float64."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BertConfig, Qwen3MoeConfig
from transformers.pytorch_utils import Conv1D

from spice_select.config import GradientConfig
from spice_select.errors import ConfigError, Stopped, UnsupportedProxyError
from spice_select.gradients.collect import collect_gradients
from spice_select.gradients.per_sample import measure
from spice_select.gradients.projection import make_sketch
from spice_select.gradients.targets import find_targets
from spice_select.models.layers import fresh_adapter
from spice_select.models.projection_shape import sketch_shape
from spice_select.records.tokenize import Example
from tests.library.families import FAMILIES, build, float64_throughout, nasty_examples
from tests.reference import selection as reference

TOLERANCE = 1e-9
with_peft = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def exact_arithmetic() -> Generator[None]:
    with float64_throughout():
        yield


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.norm() > 0
    return float((found - expected).norm() / expected.norm())


def exact(**settings: Any) -> GradientConfig:
    return GradientConfig(
        **{"sketch_dim": None, "normalize": "none", "dtype": "float64", "batch_tokens": 64, **settings}
    )


def sketched(gradients: torch.Tensor, name: str, dim: int, *, seed: int, inputs_first: bool = False) -> torch.Tensor:
    """Exact weight gradients of one layer, (n, o, i) or (n, i, o), through its two projections one after the other."""
    if inputs_first:
        gradients = gradients.mT
    shape = sketch_shape(gradients.shape[2], gradients.shape[1], dim)
    sketch = make_sketch(name, shape, seed, dtype=torch.float64)
    if sketch.inputs is not None:
        gradients = gradients @ sketch.inputs.T
    if sketch.outputs is not None:
        gradients = sketch.outputs @ gradients
    return (gradients.mT if inputs_first else gradients).flatten(1) * sketch.scale


def with_adapters(model: Any, rank: int, alpha: float) -> Any:
    """The model with real adapters of PEFT on every linear layer of its blocks."""
    names = [target.name for target in find_targets(model, exact())]
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    settings = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0, fan_in_fan_out=transposed, bias="none"
    )
    return get_peft_model(model, settings, autocast_adapter_dtype=False).double().eval()


@pytest.mark.parametrize("targets", ["linear", "lora"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_last_half_of_the_blocks_has_the_gradients_that_it_has_among_all(family: str, targets: Any) -> None:
    model, examples = build(family), nasty_examples(3, count=6)
    settings: dict[str, Any] = {"targets": targets, "lora_rank": 2, "sketch_dim": 6}
    whole = exact(**settings)
    half = exact(**settings, layers="last_half")
    kept = find_targets(model, half)
    names = [target.name for target in find_targets(model, whole)]
    assert [target.name for target in kept] == names[len(names) // 2 :]
    found, every = (measure(model, examples, config, feature_dtype=torch.float64).features for config in (half, whole))
    assert relative_error(found, every[:, -found.shape[1] :]) < TOLERANCE
    assert found.shape[1] < every.shape[1]


@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.parametrize("family", FAMILIES)
def test_exact_gradients_are_those_of_autograd(family: str, loss: str) -> None:
    model, examples, config = build(family), nasty_examples(1), exact(loss=loss)
    weights = [target.weight for target in find_targets(model, config)]
    found = measure(model, examples, config, feature_dtype=torch.float64)
    filled = [example for example in examples if example.input_ids]
    expected, losses = reference.one_at_a_time_gradients(model, filled, weights, mean=loss == "mean")
    assert relative_error(found.features[: len(filled)], expected) < TOLERANCE
    assert relative_error(found.losses[: len(filled)], losses) < TOLERANCE
    for row in range(len(filled)):
        if expected[row].norm() > 0:
            assert relative_error(found.features[row], expected[row]) < TOLERANCE
    assert not found.features[len(filled) :].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_sketched_gradients_are_the_projected_exact_ones(family: str) -> None:
    model, examples, config = build(family), nasty_examples(2), exact(sketch_dim=12, seed=7)
    targets = find_targets(model, config)
    found = measure(model, examples, config, feature_dtype=torch.float64).features
    filled = [example for example in examples if example.input_ids]
    weights = [target.weight for target in targets]
    rows, _ = reference.one_at_a_time_gradients(model, filled, weights, mean=True)
    blocks = zip(targets, rows.split([w.numel() for w in weights], dim=1), strict=True)
    expected = [
        sketched(block.view(-1, *target.weight.shape), target.name, 12, seed=7, inputs_first=target.inputs_first)
        for target, block in blocks
    ]
    assert relative_error(found[: len(filled)], torch.cat(expected, dim=1)) < TOLERANCE


@with_peft
@pytest.mark.parametrize("family", ["qwen2", "gpt2", "phi3"])
@pytest.mark.parametrize("sketch_dim", [None, 12])
def test_fresh_adapters_are_those_of_peft(family: str, sketch_dim: int | None) -> None:
    config = exact(targets="lora", lora_rank=4, lora_alpha=6.0, sketch_dim=sketch_dim, seed=3)
    examples = nasty_examples(3)[:-2]
    plain = build(family)
    found = measure(plain, examples, config, feature_dtype=torch.float64).features
    targets = find_targets(plain, config)
    adapted = with_adapters(plain, rank=4, alpha=6.0)
    modules = dict(adapted.named_modules())
    for target in targets:
        down = modules[f"base_model.model.{target.name}.lora_A.default"]
        down.weight.data.copy_(fresh_adapter(target.name, 4, down.in_features, 3))
    ups = [modules[f"base_model.model.{target.name}.lora_B.default"].weight for target in targets]
    downs = [modules[f"base_model.model.{target.name}.lora_A.default"].weight for target in targets]
    assert not reference.one_at_a_time_gradients(adapted, examples, downs, mean=True)[0].any()
    expected, _ = reference.one_at_a_time_gradients(adapted, examples, ups, mean=True)
    if sketch_dim is not None:
        expected = torch.cat(
            [
                sketched(block.view(-1, *up.shape), f"{target.name}.lora_B", sketch_dim, seed=3)
                for target, up, block in zip(targets, ups, expected.split([u.numel() for u in ups], dim=1), strict=True)
            ],
            dim=1,
        )
    assert relative_error(found, expected) < TOLERANCE


@with_peft
@pytest.mark.parametrize("family", ["qwen2", "gpt_neox"])
def test_trained_adapters_are_measured_where_they_are(family: str) -> None:
    adapted = with_adapters(build(family), rank=3, alpha=5.0)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    examples, config = nasty_examples(4)[:-1], exact(targets="lora")
    weights = [target.weight for target in find_targets(adapted, config)]
    assert sum(w.numel() for w in weights) == sum(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)
    expected, losses = reference.one_at_a_time_gradients(adapted, examples, weights, mean=True)
    found = measure(adapted, examples, config, feature_dtype=torch.float64)
    assert relative_error(found.features, expected) < TOLERANCE
    assert relative_error(found.losses, losses) < TOLERANCE


@with_peft
def test_wrapping_a_model_in_fresh_adapters_does_not_change_its_linear_gradients() -> None:
    plain, config = build("qwen2"), exact(sketch_dim=16)
    before = measure(plain, nasty_examples(5), config, feature_dtype=torch.float64).features
    after = measure(with_adapters(plain, 4, 4.0), nasty_examples(5), config, feature_dtype=torch.float64).features
    assert relative_error(after, before) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_and_padding_side_do_not_matter(family: str) -> None:
    model, examples = build(family), nasty_examples(6)
    alone = measure(model, examples, exact(batch_tokens=8), feature_dtype=torch.float64)
    for batch_tokens in (40, 4096):
        together = measure(model, examples, exact(batch_tokens=batch_tokens), feature_dtype=torch.float64)
        assert relative_error(together.features, alone.features) < TOLERANCE
        assert relative_error(together.losses, alone.losses) < TOLERANCE
    left = measure(model, examples, exact(batch_tokens=4096), feature_dtype=torch.float64, padding_side="left")
    assert relative_error(left.features, alone.features) < TOLERANCE


def test_order_of_the_examples_is_the_order_of_the_rows() -> None:
    model, examples = build("llama"), nasty_examples(7)
    order = list(range(len(examples)))
    random.Random(7).shuffle(order)
    straight = measure(model, examples, exact(), feature_dtype=torch.float64)
    shuffled = measure(model, [examples[i] for i in order], exact(), feature_dtype=torch.float64)
    assert relative_error(shuffled.features, straight.features[order]) < TOLERANCE
    assert torch.equal(shuffled.tokens, straight.tokens[order])


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_blocks_of_logits_do_not_matter(family: str) -> None:
    model, examples = build(family), nasty_examples(8)
    whole = measure(model, examples, exact(), feature_dtype=torch.float64)
    pieces = measure(model, examples, exact(), feature_dtype=torch.float64, logit_bytes=3 * 8 * 53)
    assert relative_error(pieces.features, whole.features) < TOLERANCE
    assert relative_error(pieces.losses, whole.losses) < TOLERANCE


def test_a_head_that_does_more_than_its_settings_say_is_asked_itself() -> None:
    class Doubling(torch.nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden)

    model = build("llama")
    head = Doubling(24, 53, bias=False, dtype=torch.float64)
    head.weight = model.lm_head.weight
    model.lm_head = head
    examples, config = nasty_examples(9)[:-1], exact()
    weights = [target.weight for target in find_targets(model, config)]
    expected, _ = reference.one_at_a_time_gradients(model, examples, weights, mean=True)
    assert relative_error(measure(model, examples, config, feature_dtype=torch.float64).features, expected) < TOLERANCE


def test_the_model_is_left_as_it_was_found() -> None:
    model = build("gpt2", dtype=torch.float32).train()
    model.transformer.h[0].eval()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 > 0)
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)

    def state() -> list[object]:
        return [
            [(name, p.requires_grad, p.data_ptr(), p.dtype, p.grad is None) for name, p in model.named_parameters()],
            [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        ]

    before, weights = state(), [p.detach().clone() for p in model.parameters()]
    global_state = torch.random.get_rng_state()
    measure(model, nasty_examples(10), exact())
    with pytest.raises(Stopped):
        measure(model, nasty_examples(10), exact(targets="lora"), should_stop=lambda: True)
    assert state() == before
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    assert torch.equal(torch.random.get_rng_state(), global_state)


def test_unit_length_keeps_the_direction_and_reports_the_length() -> None:
    model, examples = build("qwen2"), nasty_examples(11)
    raw = measure(model, examples, exact(), feature_dtype=torch.float64)
    unit = measure(model, examples, exact(normalize="unit"), feature_dtype=torch.float64)
    lengths = raw.features.norm(dim=1)
    assert torch.allclose(unit.norms, lengths, rtol=1e-12)
    filled = lengths > 0
    assert relative_error(unit.features[filled] * lengths[filled].unsqueeze(1), raw.features[filled]) < TOLERANCE
    assert (~filled).sum() == 3  # one learned token that nothing predicts, one token, none at all
    assert not unit.features[~filled].any()
    assert unit.finite.all()


def test_rows_are_float32_and_near_the_float64_ones() -> None:
    model, examples = build("qwen2", dtype=torch.float32), nasty_examples(12)
    single = collect_gradients(model, examples, GradientConfig(sketch_dim=None, normalize="none"))
    double = measure(model, examples, exact(), feature_dtype=torch.float64).features
    assert single.dtype == torch.float32
    assert relative_error(single.double(), double) < 1e-5
    half = collect_gradients(model, examples, GradientConfig(sketch_dim=None, normalize="none", dtype="bfloat16"))
    assert relative_error(half.double(), double) < 0.05


def test_a_sample_that_is_not_finite_costs_only_itself() -> None:
    model = build("llama", dtype=torch.float32)
    model.model.embed_tokens.weight.data[51] = float("nan")
    fine = [e for e in nasty_examples(13) if 51 not in e.input_ids and e.input_ids]
    poisoned = [*fine[:3], Example([4, 51, 6, 7], [4, 51, 6, 7]), *fine[3:]]
    config = GradientConfig(sketch_dim=8, batch_tokens=4096)
    found = measure(model, poisoned, config)
    assert found.finite.tolist() == [True] * 3 + [False] + [True] * (len(fine) - 3)
    assert not found.features[3].any()
    assert torch.isfinite(found.features).all()
    clean = measure(model, fine, config).features
    assert torch.allclose(torch.cat([found.features[:3], found.features[4:]]), clean, atol=1e-5)
    with pytest.warns(UserWarning, match="1 gradients are not finite"):
        collect_gradients(model, poisoned, config)


def test_too_little_memory_halves_the_batch_and_changes_nothing_else() -> None:
    model, examples = build("qwen2"), nasty_examples(14)

    def crowded(_module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 2:
            raise torch.OutOfMemoryError("this card holds two samples")

    calm = measure(model, examples, exact(batch_tokens=4096), feature_dtype=torch.float64)
    handle = model.model.layers[0].self_attn.q_proj.register_forward_pre_hook(crowded)
    tight = measure(model, examples, exact(batch_tokens=4096), feature_dtype=torch.float64)
    handle.remove()
    assert calm.halvings == 0
    assert tight.halvings > 1
    assert relative_error(tight.features, calm.features) < TOLERANCE


def test_progress_counts_samples_and_tokens_up_to_all_of_them() -> None:
    seen: list[tuple[int, int, int]] = []
    examples = nasty_examples(15)
    measure(build("qwen2"), examples, exact(), on_progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (len(examples), len(examples), sum(len(e.input_ids) for e in examples))


def test_stopping_is_asked_before_every_batch() -> None:
    answers = iter([False, False, True])
    done: list[int] = []
    with pytest.raises(Stopped):
        measure(
            build("qwen2"),
            nasty_examples(16),
            exact(batch_tokens=23),
            on_progress=lambda completed, *_: done.append(completed),
            should_stop=lambda: next(answers),
        )
    assert len(done) == 2


@pytest.mark.parametrize(
    "example",
    [Example([1, 2], [1]), Example([1, 53], [1, 53]), Example([-1, 2], [-1, 2]), Example([1] * 65, [1] * 65)],
    ids=["labels of another length", "unknown token", "negative token", "longer than the context"],
)
def test_examples_the_model_cannot_take_are_refused(example: Example) -> None:
    with pytest.raises(ConfigError, match="example 1 "):
        measure(build("qwen2"), [Example([1, 2], [1, 2]), example], exact())


def test_no_examples_give_no_rows() -> None:
    assert measure(build("qwen2"), [], GradientConfig(sketch_dim=4)).features.shape == (0, 14 * 4)


def test_a_model_that_looks_ahead_is_refused() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = AutoModelForCausalLM.from_config(BertConfig(vocab_size=53, initializer_range=0.3, **sizes)).eval()
    with pytest.raises(UnsupportedProxyError, match="BertLMHeadModel is not causal"):
        measure(model, nasty_examples(17), GradientConfig())
    decoder = AutoModelForCausalLM.from_config(BertConfig(vocab_size=53, is_decoder=True, **sizes)).eval()
    assert measure(decoder, nasty_examples(17), GradientConfig()).finite.all()


def test_experts_are_refused_by_name() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen3MoeConfig(
        vocab_size=20, intermediate_size=16, moe_intermediate_size=8, num_experts=2, num_experts_per_tok=1, **sizes
    )
    with pytest.raises(UnsupportedProxyError, match=r"experts\.gate_up_proj.*mixtures of experts"):
        find_targets(AutoModelForCausalLM.from_config(config), GradientConfig())
