"""The largest batch that fits, and what a batch takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import spice_select as ss
from spice_select.config import GradientConfig
from spice_select.errors import ConfigError
from spice_select.fingerprint import gradient_fingerprint
from spice_select.gradients import auto_batches
from spice_select.gradients.auto_batches import model_shape, settled
from spice_select.gradients.per_sample import measure
from spice_select.models import memory
from spice_select.models.architecture import TINY, ProxyShape, proxy_shape
from spice_select.models.batch_memory import (
    BATCH_SHARE,
    LOGIT_BYTES,
    MICRO_TOKENS,
    MOST_ON_CPU,
    MOST_ON_GPU,
    BatchMemory,
    batch_memory,
    fitting_batch_tokens,
    most_tokens,
    tuning_bytes,
    tuning_peak_bytes,
)
from spice_select.models.lora import attach
from spice_select.models.tiny import build_tiny_model
from tests.library.families import FAMILIES, build
from tests.reference.selection import largest_power_that_fits


def random_cases(seed: int, count: int = 400) -> list[tuple[int, BatchMemory, int, int]]:
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        weights, features, logits = (int(2 ** random.uniform(0, 30)) for _ in range(3))
        sizes = BatchMemory(weights, features, logits, int(2 ** random.uniform(0, 24)))
        free = int(2 ** random.uniform(20, 38))
        cases.append((free, sizes, int(2 ** random.uniform(3, 12)), int(2 ** random.integers(9, 16))))
    return cases


def test_the_budget_is_the_one_found_by_trying(seed: int) -> None:
    inside = 0
    for free, sizes, longest, most in random_cases(seed):
        found = fitting_batch_tokens(free, sizes, longest, most)
        room = int(BATCH_SHARE * free)
        assert found == largest_power_that_fits(room, sizes.fixed, sizes.per_token, longest, most)
        assert found.bit_count() == 1
        assert found <= most
        if found > longest:
            inside += found < most
            assert sizes.of_batch(found) <= BATCH_SHARE * free
            assert found == most or sizes.of_batch(2 * found) > room
    assert inside > 20, "the cases must try what lies between the two ends"


def test_more_memory_never_means_a_smaller_batch_and_a_little_more_the_same(seed: int) -> None:
    for free, sizes, longest, most in random_cases(seed + 1):
        found = [fitting_batch_tokens(int(free * more), sizes, longest, most) for more in (0.5, 1, 1.001, 2, 64)]
        assert found == sorted(found)
    sizes = BatchMemory(10**9, 0, 0, 10**6)
    assert {fitting_batch_tokens(free, sizes, 1024, MOST_ON_GPU) for free in range(24 * 10**9, 40 * 10**9, 10**9)} == {
        16384
    }


@pytest.mark.parametrize("free", [0, -5, 1, 10**6])
def test_a_device_that_is_full_gets_batches_no_larger_than_its_longest_row(free: int) -> None:
    sizes = BatchMemory(10**9, 10**6, 10**6, 10**5)
    assert fitting_batch_tokens(free, sizes, 1000, MOST_ON_GPU) == 512
    assert fitting_batch_tokens(free, sizes, 1, MOST_ON_GPU) == 8
    assert fitting_batch_tokens(free, sizes, 2**20, MOST_ON_CPU) == MOST_ON_CPU


def test_what_a_batch_takes_follows_from_the_sizes() -> None:
    shape = ProxyShape(2, ((4, 6), (6, 4)), 50, 4, 1)
    config = GradientConfig(sketch_dim=None, dtype="float32")
    taken = batch_memory(shape, config, 10)
    assert taken.weights == shape.parameters * 4
    assert taken.features == 10 * shape.features(config) * 4
    assert taken.logits == 3 * LOGIT_BYTES
    assert taken.per_token == 2 * 4 * 2 * (10 + 10)
    assert taken.of_batch(7) == taken.fixed + 7 * taken.per_token
    half = batch_memory(shape, GradientConfig(sketch_dim=None, dtype="bfloat16"), 10)
    assert (half.weights, half.per_token) == (taken.weights // 2, taken.per_token // 2)
    assert batch_memory(shape, config, 10, loaded=True).weights == 0
    tuned = batch_memory(shape, config, 10, tuned=True)
    assert tuned.weights > taken.weights
    assert batch_memory(shape, config, 10, tuned=True, loaded=True).weights == tuned.weights - taken.weights
    whole = batch_memory(shape, config, 10, whole_logits=True)
    assert (whole.logits, whole.per_token) == (0, taken.per_token + 3 * 4 * 50)
    for dtype, size in (("bfloat16", 4), ("float32", 4), ("float64", 8)):
        for weights in ("lora", "full"):
            stepping = GradientConfig.model_validate({"dtype": dtype, "max_length": 64, "tuning": {"weights": weights}})
            told = tuning_peak_bytes(shape, stepping) - tuning_bytes(shape, stepping)
            assert told == MICRO_TOKENS * (2 * size * 2 * (10 + 10) + 3 * size * 50), (
                "steps are taken in full precision"
            )
    long = GradientConfig(max_length=3 * MICRO_TOKENS)
    assert tuning_peak_bytes(shape, long) - tuning_bytes(shape, long) == 3 * MICRO_TOKENS * (320 + 600)
    wide = ProxyShape(1, ((4, 4),), LOGIT_BYTES, 4, 1)
    assert batch_memory(wide, config, 1).logits == 3 * 4 * LOGIT_BYTES, "one position is held whatever its size"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_loaded_model_has_the_sizes_of_its_config(family: str) -> None:
    model, config = build(family), GradientConfig(sketch_dim=8)
    told, found = proxy_shape(model.config.to_dict()), model_shape(model)
    if told is None:  # a kind whose config nobody can read here is measured all the same
        assert found.parameters == sum(p.numel() for p in model.parameters() if p.ndim > 1)
        return
    assert batch_memory(found, config, 3) == batch_memory(told, config, 3)


def test_adapters_are_no_layers_of_the_model() -> None:
    model = build("phi3")
    before = model_shape(model)
    attach(model, 4, 8.0, 0)
    assert model_shape(model) == before


def test_auto_is_settled_by_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model, auto = build_tiny_model(), GradientConfig(batch_tokens="auto", sketch_dim=4, max_length=64)
    shape = proxy_shape(TINY)
    assert shape is not None
    taken = batch_memory(shape, auto, 20, loaded=True)
    seen = []
    for free in (0, 10**7, int((taken.of_batch(600)) / BATCH_SHARE), 10**12):
        monkeypatch.setattr(auto_batches, "free_bytes", lambda _device, free=free: free)
        seen.append(most_tokens(settled(model, auto, rows=20)))
    assert seen == [64, 64, 512, MOST_ON_CPU]
    fixed = GradientConfig(batch_tokens=100)
    assert settled(model, fixed, rows=20) is fixed


def test_gradients_under_auto_are_those_under_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_tiny_model()
    examples = [
        ss.Example(input_ids=list(range(3, 3 + n)), labels=[-100, -100, *range(5, 3 + n)]) for n in range(8, 60)
    ]
    auto = GradientConfig(batch_tokens="auto", sketch_dim=4, max_length=64)
    monkeypatch.setattr(auto_batches, "free_bytes", lambda _device: 0)  # the longest row decides: 59 tokens
    assert torch.equal(
        ss.collect_gradients(model, examples, auto),
        ss.collect_gradients(model, examples, auto.model_copy(update={"batch_tokens": 32})),
    )
    assert ss.collect_gradients(model, [], auto).shape[0] == 0
    with pytest.raises(ConfigError, match="settled first") as refused:
        measure(model, examples, auto)
    assert refused.value.errors[0]["pointer"] == "#/gradients/batch_tokens"


def test_a_budget_that_is_a_number_leaves_fingerprints_as_they_were() -> None:
    assert GradientConfig().digest() == "5aa2389277f6a420daf3311a466f54f7799b85b75e6850ae1ad4c05602c9123a"
    assert (
        GradientConfig(batch_tokens=512).digest() == "82ebd6861b0803ff37230e15aec41685f0af51927c4a43f48dbab7109ae54ba6"
    )
    assert (
        gradient_fingerprint(rows_sha256="r", proxy_revision="p", config=GradientConfig())
        == "94515a3c1ea419fbf033cd6abeb81615c42e8449d6a63747d25d3e476d065286"
    )


@pytest.mark.parametrize("given", ["AUTO", "512", 7, 2**24 + 1, True, None, 512.0])
def test_no_other_budget_is_taken(given: object) -> None:
    with pytest.raises(ValueError, match="batch_tokens"):
        GradientConfig(batch_tokens=given)  # type: ignore[arg-type]


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:   4000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_bytes("cpu") == 4000 * 1024, "no limit"
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes("cpu") == 4000 * 1024, "no limit either"
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 500000\n")
    assert memory.free_bytes("cpu") == 1_500_000, "what is only cached can be had"
    assert memory.host_bytes() == 3_000_000
    (tmp_path / "memory.current").write_text("4000000\n")
    assert memory.free_bytes("cpu") == 0
    meminfo.write_text("nothing of use\n")
    assert memory.free_bytes("cpu") == 0
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "not-there")
    (tmp_path / "memory.max").unlink()
    assert memory.free_bytes("cpu") == memory.host_bytes()
