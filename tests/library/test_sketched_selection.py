"""What the sketch costs where it counts: the exact utility of the selection made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spice_select.config import Budget, GradientConfig, ProxyConfig, SelectionConfig
from spice_select.gradients.collect import collect_gradients
from spice_select.models.proxy import load_proxy
from spice_select.records.tokenize import load_examples
from spice_select.selection.select import select

BUNDLED = Path(__file__).parents[2] / "examples" / "bundled.jsonl"
POOL, PICKS = 120, 20


def utility(gradients: torch.Tensor, indices: list[int]) -> float:
    chosen = gradients[indices].double()
    return float(torch.linalg.slogdet(torch.eye(len(indices), dtype=torch.float64) + chosen @ chosen.T)[1])


@pytest.mark.filterwarnings("ignore:.*records teach nothing")
@pytest.mark.parametrize("normalize", ["unit", "none"])
def test_the_default_sketch_keeps_99_percent_of_the_exact_utility(normalize: str) -> None:
    records = [json.loads(line) for line in BUNDLED.read_text().splitlines()[:POOL]]
    proxy = load_proxy(ProxyConfig(), GradientConfig())
    examples = load_examples(records, proxy.tokenizer, max_length=256)
    config = SelectionConfig(budget=Budget(count=PICKS))
    exact = collect_gradients(proxy.model, examples, GradientConfig(sketch_dim=None, normalize=normalize))
    best = utility(exact, select(exact, config).indices)
    kept = {}
    for sketch_dim in (1, GradientConfig().sketch_dim):
        settings = GradientConfig(sketch_dim=sketch_dim, normalize=normalize)
        sketched = collect_gradients(proxy.model, examples, settings)
        kept[sketch_dim] = utility(exact, select(sketched, config).indices) / best
    print(kept)
    assert kept[GradientConfig().sketch_dim] >= 0.99
    assert kept[1] < kept[GradientConfig().sketch_dim]
