"""Samples that share a row: the same numbers as one sample at a time, in float64, for every family."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spice_select.config import GradientConfig
from spice_select.errors import UnsupportedProxyError
from spice_select.gradients.batching import pack, plan_packed
from spice_select.gradients.forward import BatchPass
from spice_select.gradients.per_sample import measure
from spice_select.gradients.targets import find_targets
from spice_select.records.tokenize import Example
from tests.library.families import FAMILIES, build, float64_throughout, nasty_examples
from tests.reference import selection as reference

EXACT = GradientConfig(sketch_dim=None, normalize="none", dtype="float64", batch_tokens=64)


@pytest.fixture(autouse=True)
def exact_arithmetic() -> Generator[None]:
    with float64_throughout():
        yield


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


ATTENTIONS = [(family, attention) for family in FAMILIES for attention in ("sdpa", "eager")]
ATTENTIONS = [way for way in ATTENTIONS if way[0] != "falcon" and way != ("gemma2", "sdpa")]
"""Falcon mixes what shares a row, and is refused; transformers has no sdpa for Gemma 2."""


@pytest.mark.parametrize(("family", "attention"), ATTENTIONS)
def test_packed_gradients_are_those_of_autograd(family: str, attention: str) -> None:
    model, examples = build(family), nasty_examples(4)
    model.set_attn_implementation(attention)
    filled = [example for example in examples if example.input_ids]
    weights = [target.weight for target in find_targets(model, EXACT)]
    expected, losses = reference.one_at_a_time_gradients(model, filled, weights, mean=True)
    found = measure(model, examples, EXACT, feature_dtype=torch.float64, packed=True)
    assert relative_error(found.features[: len(filled)], expected) < 1e-9
    assert relative_error(found.losses[: len(filled)], losses) < 1e-9
    assert not found.features[len(filled) :].any()


@pytest.mark.parametrize("settings", [{"sketch_dim": 12}, {"sketch_dim": 12, "targets": "lora"}, {"loss": "sum"}])
@pytest.mark.parametrize("family", ["qwen2", "gpt2", "gemma2"])
def test_packed_and_padded_agree_under_every_setting(family: str, settings: dict[str, Any]) -> None:
    model, examples, config = build(family), nasty_examples(5), EXACT.model_copy(update=settings)
    padded = measure(model, examples, config, feature_dtype=torch.float64, packed=False)
    for tokens in (1, 40, 10_000):
        config = config.model_copy(update={"batch_tokens": tokens})
        packed = measure(model, examples, config, feature_dtype=torch.float64, packed=True)
        assert relative_error(packed.features, padded.features) < 1e-9
        assert relative_error(packed.losses, padded.losses) < 1e-9
    for name in ("tokens", "label_tokens", "finite"):
        assert torch.equal(getattr(packed, name), getattr(padded, name)), name


def test_a_sample_that_is_not_finite_costs_only_itself() -> None:
    model = build("llama", dtype=torch.float32)
    model.model.embed_tokens.weight.data[51] = float("nan")
    fine = [e for e in nasty_examples(13) if 51 not in e.input_ids and e.input_ids]
    poisoned = [*fine[:3], Example([4, 51, 6, 7], [4, 51, 6, 7]), *fine[3:]]
    config = GradientConfig(sketch_dim=8, batch_tokens=4096)
    seen: list[tuple[int, int, int]] = []
    found = measure(model, poisoned, config, packed=True, on_progress=lambda *now: seen.append(now))
    assert found.finite.tolist() == [True] * 3 + [False] + [True] * (len(fine) - 3)
    assert not found.features[3].any()
    clean = measure(model, fine, config).features
    assert torch.allclose(torch.cat([found.features[:3], found.features[4:]]), clean, atol=1e-5)
    assert seen[-1] == (len(poisoned), len(poisoned), int(found.tokens.sum()))


def test_too_little_memory_halves_a_packed_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, examples = build("llama"), nasty_examples(7)[:8]
    expected = measure(model, examples, EXACT, feature_dtype=torch.float64)
    run = BatchPass.__call__

    def tight(self: BatchPass, batch: Any) -> Any:
        if batch.samples > 2:
            raise torch.OutOfMemoryError("too much")
        return run(self, batch)

    monkeypatch.setattr(BatchPass, "__call__", tight)
    found = measure(model, examples, EXACT, feature_dtype=torch.float64, packed=True)
    assert found.halvings > 0
    assert relative_error(found.features, expected.features) < 1e-9


def test_a_model_that_mixes_what_shares_a_row_is_refused_by_name() -> None:
    # its positions come from the attention mask, which a packed row does not have
    with pytest.raises(UnsupportedProxyError, match="FalconForCausalLM with sdpa attention mixes texts"):
        measure(build("falcon"), nasty_examples(8), EXACT, packed=True)


@pytest.mark.parametrize(("mask", "packs"), [("sdpa", True), ("flash_attention_2", False)])
def test_attention_that_knows_where_samples_end_is_given_packed_rows(mask: str, packs: bool) -> None:
    model, examples, rows = build("qwen2"), nasty_examples(8), set[int]()
    expected = measure(model, examples, EXACT, feature_dtype=torch.float64)
    # The kernels themselves want a GPU: here the name alone is theirs and the arithmetic that of sdpa, which needs the
    # mask to tell samples apart. Without it they would be mixed, which is found out, and they are padded.
    AttentionInterface.register("flash_by_name", ALL_ATTENTION_FUNCTIONS["sdpa"])
    AttentionMaskInterface.register("flash_by_name", ALL_MASK_ATTENTION_FUNCTIONS[mask])
    model.config._attn_implementation_internal = "flash_by_name"
    model.get_input_embeddings().register_forward_pre_hook(lambda _module, given: rows.add(len(given[0])))
    found = measure(model, examples, EXACT, feature_dtype=torch.float64)
    assert relative_error(found.features, expected.features) < 1e-9
    assert (max(rows) <= 2) is packs, "2 are the rows of the check of the head"


@pytest.mark.parametrize("seed", range(5))
def test_a_packed_plan_holds_every_example_once_under_the_limit(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 50, (200,), generator=generator).tolist()
    plan = plan_packed(lengths, 120)
    assert sorted(index for batch in plan for index in batch) == [i for i, length in enumerate(lengths) if length]
    sizes = [[lengths[i] for i in batch] for batch in plan]
    assert all(sum(batch) <= 120 for batch in sizes)
    assert [length for batch in sizes for length in batch] == sorted((n for n in lengths if n), reverse=True)
    assert all(sum(batch) + following[0] > 120 for batch, following in pairwise(sizes))
    assert plan_packed([500, 3], 120) == [[0], [1]]


def test_packing_keeps_order_positions_and_labels() -> None:
    batch = pack([Example([5, 6, 7], [-100, 6, 7]), Example([8], [8]), Example([9, 3], [9, 3])])
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 3]]
    assert batch.targets.tolist() == [[6, 7, -100, -100, 3, -100]]
    assert batch.places is not None
    assert batch.places.tolist() == [[0, 1, 2], [3, 6, 6], [4, 5, 6]]
    found = batch.position_ids
    assert found is not None
    assert found.tolist() == [[0, 1, 2, 0, 0, 1]]
    assert batch.samples == 3
