"""``dtype: auto``: bfloat16 for wide models where it is faster, float32 elsewhere, and recorded as what it became."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spice_select as ss
from spice_select.config import GradientConfig, ProxyConfig, RunConfig, SelectionConfig
from spice_select.defaults import WIDE, with_dtype, with_preset
from spice_select.models import compute_type
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import run
from tests.fixtures.models import tiny_folder, wide_folder
from tests.fixtures.service import jsonl, sums

AUTO = GradientConfig(dtype="auto", sketch_dim=8, max_length=64)


def refused() -> bool:
    raise AssertionError("asked although the answer does not matter")


@pytest.mark.parametrize(
    ("sizes", "is_fast", "dtype"),
    [
        ({"hidden_size": WIDE}, True, "bfloat16"),
        ({"hidden_size": WIDE}, False, "float32"),
        ({"n_embd": 768}, True, "bfloat16"),
        ({"hidden_size": "many"}, True, "float32"),
        ({}, True, "bfloat16"),
        (None, True, "bfloat16"),
        (None, False, "float32"),
    ],
)
def test_auto_is_settled_by_the_width_of_the_model_and_by_what_is_fast(sizes: Any, is_fast: bool, dtype: str) -> None:
    settled = with_dtype(AUTO, sizes, is_fast=lambda: is_fast)
    assert settled == AUTO.model_copy(update={"dtype": dtype})


def test_nobody_is_asked_where_it_does_not_matter() -> None:
    assert with_dtype(AUTO, {"hidden_size": WIDE - 1}, is_fast=refused).dtype == "float32"
    for dtype in ("float32", "bfloat16", "float64"):
        given = GradientConfig(dtype=dtype)  # type: ignore[arg-type]
        assert with_dtype(given, None, is_fast=refused) is given


def test_the_preset_asks_for_auto_unless_the_proxy_is_built_in_or_a_type_was_given() -> None:
    def dtype_of(model: str, **gradients: Any) -> str:
        budget = SelectionConfig(budget=ss.Budget(count=3))
        asked = RunConfig(selection=budget, proxy=ProxyConfig(model=model), gradients=GradientConfig(**gradients))
        return with_preset(asked, targeted=False).gradients.dtype

    assert dtype_of("org/model") == "auto"
    assert dtype_of("org/model", dtype="float32") == "float32"
    assert dtype_of("builtin:tiny") == "float32"


@pytest.mark.parametrize(("speedup", "fast"), [(0.46, False), (1.29, False), (1.31, True), (4.6, True)])
def test_a_claim_of_the_processor_is_measured(monkeypatch: pytest.MonkeyPatch, speedup: float, fast: bool) -> None:
    monkeypatch.setattr(compute_type, "claims_bfloat16", lambda: True)
    monkeypatch.setattr(compute_type, "speedup", lambda: speedup)
    assert compute_type.is_bfloat16_fast.__wrapped__("cpu") is fast
    monkeypatch.setattr(compute_type, "claims_bfloat16", lambda: False)
    assert not compute_type.is_bfloat16_fast.__wrapped__("cpu")


def test_the_measurement_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    assert compute_type.speedup() > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("fast", [True, False])
def test_a_run_records_what_auto_became(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr("spice_select.pipeline.run.is_bfloat16_fast", lambda _device: fast)
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(jsonl(sums(8)))
    for folder, dtype in ((wide_folder(tmp_path / "wide"), "bfloat16"), (tiny_folder(tmp_path / "tiny"), "float32")):
        budget = SelectionConfig(budget=ss.Budget(count=3))
        asked = RunConfig(
            selection=budget,
            proxy=ProxyConfig(model=str(folder)),
            gradients=GradientConfig(sketch_dim=8, max_length=64),
        )
        result = run(rows, asked)
        internal = result.statement["predicate"]["buildDefinition"]
        assert internal["externalParameters"]["config"]["gradients"]["dtype"] == (dtype if fast else "float32")


def test_a_model_that_auto_loaded_is_measured_in_the_type_it_was_loaded_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spice_select.models.proxy.is_bfloat16_fast", lambda _device: True)
    proxy = load_proxy(ProxyConfig(model=str(wide_folder(tmp_path / "wide"))), AUTO)
    assert next(proxy.model.parameters()).dtype == torch.bfloat16
    examples = ss.load_examples(sums(3), proxy.tokenizer, max_length=64)
    found = ss.collect_gradients(proxy.model, examples, AUTO)
    half = ss.collect_gradients(proxy.model, examples, AUTO.model_copy(update={"dtype": "bfloat16"}))
    assert torch.equal(found, half)
    assert not torch.equal(
        found, ss.collect_gradients(proxy.model, examples, AUTO.model_copy(update={"dtype": "float32"}))
    )
