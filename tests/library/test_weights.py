"""Weights of labels scale the gradient of their tokens, checked against autograd."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from spice_select.config import GradientConfig
from spice_select.gradients.per_sample import measure
from spice_select.models.tiny import build_tiny_model
from spice_select.records.packed_examples import TokenPool
from spice_select.records.tokenize import IGNORED, Example
from spice_select.training.steps import token_losses

IDS = [5, 300, 400, 7, 8, 9, 301]
LABELS = [IGNORED, IGNORED, 400, 7, IGNORED, 9, 301]
WEIGHTS = [1.0, 1.0, 0.25, 0.25, 1.0, 1.0, 2.0]


@pytest.fixture(scope="module")
def model() -> Any:
    return build_tiny_model().double()


def by_autograd(model: Any, loss: str) -> tuple[float, torch.Tensor]:
    logits = model(input_ids=torch.tensor([IDS])).logits[0]
    terms = [
        WEIGHTS[place] * torch.nn.functional.cross_entropy(logits[place - 1], torch.tensor(LABELS[place]))
        for place in range(1, len(IDS))
        if LABELS[place] != IGNORED
    ]
    total = torch.stack(terms).sum() / (len(terms) if loss == "mean" else 1)
    layers = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    found = torch.autograd.grad(total, layers)
    return float(total.detach()), torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("loss", ["mean", "sum"])
def test_weighted_gradients_are_those_of_autograd(
    model: Any, loss: Literal["mean", "sum"], side: Literal["left", "right"], packed: bool
) -> None:
    config = GradientConfig(sketch_dim=None, normalize="none", loss=loss, dtype="float64")
    rows = [Example(IDS, LABELS, WEIGHTS), Example([*IDS, 5], [*LABELS, 5])]
    measured = measure(model, rows, config, feature_dtype=torch.float64, padding_side=side, packed=packed)
    plain = measure(model, rows[1:], config, feature_dtype=torch.float64)
    expected_loss, expected = by_autograd(model, loss)
    assert measured.losses[0] == pytest.approx(expected_loss, abs=1e-10)
    assert measured.features[0].norm() == pytest.approx(float(expected.norm()), rel=1e-8)
    assert measured.features[0].sum() == pytest.approx(float(expected.sum()), abs=1e-8)
    assert torch.allclose(measured.features[1], plain.features[0], atol=1e-10)
    assert measured.label_tokens.tolist() == [4, 5]


def test_a_pool_keeps_weights_and_a_step_uses_them(model: Any) -> None:
    rows = [Example(IDS, LABELS), Example(IDS, LABELS, WEIGHTS)]
    pool = TokenPool(rows)
    assert list(pool) == rows
    losses, where = token_losses(model, None, [pool[1]])
    plain, _ = token_losses(model, None, [pool[0]])
    weights = torch.tensor([0.25, 0.25, 1.0, 2.0], dtype=losses.dtype)
    assert int(where.sum()) == 4
    assert torch.allclose(losses, plain * weights)
