"""What the gradient benchmark compares ends in the same numbers; the row of the peer is a command that can be run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import _bergson
from benchmarks._contenders import SIZES, build, contender, draw_rows
from spice_select.config import GradientConfig
from spice_select.models.tiny import build_tiny_tokenizer


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_every_way_to_the_features_ends_in_the_same_ones() -> None:
    model, config = build("small", "cpu", torch.float32), GradientConfig(batch_tokens=60)
    rows = draw_rows(5, SIZES["small"]["vocab_size"], longest=20)
    ours = contender("ours", model, rows, config)().features  # type: ignore[attr-defined]
    for name in ("ours-packed", "vmap"):
        found = contender(name, model, rows, config)()
        features = found if isinstance(found, torch.Tensor) else found.features  # type: ignore[attr-defined]
        assert float((features - ours).norm(dim=1).max()) < 1e-4, name
    contender("model", model, rows, config)()
    chosen = contender("ours-periodic", model, rows, config)()
    assert len(chosen.progress.reports) == 1  # type: ignore[attr-defined]
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_both_sides_of_the_peer_s_row_read_the_same_texts(tmp_path: Path) -> None:
    tokens = _bergson.write_texts(tmp_path / "rows.jsonl", 700, build_tiny_tokenizer())
    assert len(set((tmp_path / "rows.jsonl").read_text().splitlines())) == 700
    assert 700 * 150 < tokens < 700 * 300, "as long as the rows of an instruction set"
    commands = [
        _bergson.our_command(tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "ours"),
        _bergson.bergson_command(
            "python-with-bergson", tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "theirs", 8192
        ),
    ]
    assert all(str(tmp_path / "rows.jsonl") in command for command in commands)
    assert _bergson.compare_with_bergson(None) is None, "without the peer the row is left out, not made up"
