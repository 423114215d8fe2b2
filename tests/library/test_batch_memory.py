"""What a batch takes, and that its size names nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig
from spice_select.fingerprint import gradient_fingerprint, periodic_fingerprint
from spice_select.models import memory
from spice_select.models.architecture import ProxyShape
from spice_select.models.batch_memory import (
    LOGIT_BYTES,
    MICRO_TOKENS,
    batch_memory,
    tuning_bytes,
    tuning_peak_bytes,
)


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
    tuned = batch_memory(shape, config, 10, tuned=True)
    assert tuned.weights > taken.weights
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


@pytest.mark.parametrize("given", ["auto", "512", 7, 2**24 + 1, True, None, 512.0])
def test_no_other_budget_is_taken(given: object) -> None:
    with pytest.raises(ValueError, match="batch_tokens"):
        GradientConfig(batch_tokens=given)  # type: ignore[arg-type]


def test_the_size_of_a_batch_is_no_part_of_a_fingerprint() -> None:
    small, large = GradientConfig(batch_tokens=512), GradientConfig()
    names = [gradient_fingerprint(rows_sha256="r", proxy_revision="p", config=config) for config in (small, large)]
    assert names[0] == names[1]
    selection = SelectionConfig(budget=Budget(count=3))
    courses = [
        periodic_fingerprint(pool="p", proxy_revision="r", config=RunConfig(selection=selection, gradients=config))
        for config in (small, large, GradientConfig(seed=1))
    ]
    assert courses[0] == courses[1] != courses[2]


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    whole = memory.host_bytes()
    assert whole > 3_000_000, "no limit"
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.host_bytes() == whole, "no limit either"
    (tmp_path / "memory.max").write_text("3000000\n")
    assert memory.host_bytes() == 3_000_000
