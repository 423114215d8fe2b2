"""Sizes from ``config.json`` against the layers of the very models."""

from __future__ import annotations

import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from spice_select.config import GradientConfig
from spice_select.gradients.targets import find_targets
from spice_select.models.architecture import TINY, proxy_shape
from spice_select.models.lora import attach
from spice_select.models.tiny import build_tiny_model
from tests.library.families import FAMILIES, build

CONFIGS = [
    GradientConfig(sketch_dim=64),
    GradientConfig(sketch_dim=6),
    GradientConfig(sketch_dim=None),
    GradientConfig(sketch_dim=6, layers="last_half"),
    GradientConfig(targets="lora", lora_rank=4, sketch_dim=64),
    GradientConfig(targets="lora", lora_rank=16, sketch_dim=None, layers="last_half"),
]


def test_trained_adapters_are_measured_on_both_sides() -> None:
    model, config = build("phi3"), GradientConfig(targets="lora", lora_rank=4, sketch_dim=6, warmup_steps=1)
    shape = proxy_shape(model.config.to_dict())
    assert shape is not None
    attach(model, 4, 8.0, 0)
    assert shape.features(config) == sum(target.size for target in find_targets(model, config))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_sizes_are_those_of_the_model(family: str) -> None:
    model = build(family)
    shape = proxy_shape(model.config.to_dict())
    if family == "falcon":
        assert shape is None, "a kind that is not known says so instead of guessing"
        return
    assert shape is not None
    for config in CONFIGS:
        assert shape.features(config) == sum(target.size for target in find_targets(model, config)), config
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "wpe" not in name)
    assert shape.parameters == matrices


def test_the_built_in_model_has_the_sizes_that_are_written_down() -> None:
    model = build_tiny_model()
    shape = proxy_shape(TINY)
    assert shape is not None
    assert {name: model.config.to_dict()[name] for name in TINY} == TINY
    for config in CONFIGS:
        assert shape.features(config) == sum(target.size for target in find_targets(model, config))
    assert shape.parameters == sum(p.numel() for p in model.parameters() if p.ndim > 1)


@pytest.mark.parametrize("config", [{}, {"model_type": "llama"}, {"model_type": "llama", "hidden_size": "x"}])
def test_a_config_that_says_too_little_gives_nothing(config: dict[str, object]) -> None:
    assert proxy_shape(config) is None


def test_of_an_odd_number_of_blocks_the_larger_half_is_the_last() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 32}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))
    config = GradientConfig(sketch_dim=6, layers="last_half")
    found = find_targets(model, config)
    assert {target.name.split(".")[2] for target in found} == {"1", "2"}
    shape = proxy_shape(model.config.to_dict())
    assert shape is not None
    assert shape.features(config) == sum(target.size for target in found) == 2 * 7 * 6
