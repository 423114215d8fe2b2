"""Hook gradients against plain autograd, one sample at a time, in float64."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch

from spice_select.config import GradientConfig
from spice_select.gradients import measure
from spice_select.sketch import make_sketch, sketch_shape
from spice_select.targets import find_targets
from tests import reference
from tests.spice_select.families import FAMILIES, build, float64_throughout, nasty_examples

TOLERANCE = 1e-9


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


@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.parametrize("family", FAMILIES)
def test_exact_gradients_are_those_of_autograd(family: str, loss: str) -> None:
    model, examples, config = build(family), nasty_examples(1), exact(loss=loss)
    weights = [target.module.weight for target in find_targets(model, config)]
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
    weights = [target.module.weight for target in targets]
    rows, _ = reference.one_at_a_time_gradients(model, filled, weights, mean=True)
    columns = []
    for target, block in zip(targets, rows.split([w.numel() for w in weights], dim=1), strict=True):
        gradient = block.view(len(filled), *target.module.weight.shape)
        if not target.inputs_first:
            gradient = gradient.mT
        shape = sketch_shape(gradient.shape[1], gradient.shape[2], 12)
        sketch = make_sketch(target.name, shape, 7, dtype=torch.float64)
        if sketch.inputs is not None:
            gradient = sketch.inputs.T @ gradient
        if sketch.outputs is not None:
            gradient = gradient @ sketch.outputs
        columns.append((gradient if target.inputs_first else gradient.mT).flatten(1) * sketch.scale)
    assert relative_error(found[: len(filled)], torch.cat(columns, dim=1)) < TOLERANCE
