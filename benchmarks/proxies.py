"""Models of several architectures made in code, and their gradients on one pool."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from benchmarks.toy.material import dealt, encoded, parts, read
from benchmarks.toy.models import Architecture, Size, make_tokenizer, pretrained
from spice_select.config import digest_of

MODELS: dict[str, tuple[Architecture, tuple[int, int, int]]] = {
    "qwen2": ("qwen2", (64, 3, 2)),
    "qwen2, larger": ("qwen2", (112, 4, 4)),
    "llama": ("llama", (64, 3, 2)),
    "gpt2": ("gpt2", (64, 3, 2)),
}
"""Architecture; hidden size, layers and heads."""


def pool_and_text(given: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pool, and the rows whose text the models are trained on first."""
    rows = [row for together in dealt(read(given.pool), None, given.seed) for row in together]
    return rows[: given.rows], rows[given.rows : given.rows + given.text] or rows


def gradients_of(given: argparse.Namespace, cache: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Gradients of the pool under every model, and how each was made.

    Args:
        given: What the command was given.
        cache: Folder that keeps models and gradients.

    Raises:
        RuntimeError: The models read the pool as different rows.
    """
    pool, text = pool_and_text(given)
    documents = [part for row in text for part in parts(row) if part]
    tokenizer = make_tokenizer(documents, 1024)
    found, facts = {}, {}
    for name, (architecture, (hidden, layers, heads)) in MODELS.items():
        folder = cache / name.replace(", ", "-")
        path, about = folder / "gradients.pt", folder / "made.json"
        if not path.exists():
            size = Size(hidden, layers, heads, given.tokens)
            made = pretrained(documents, tokenizer, size, seed=given.seed, folder=folder, architecture=architecture)
            proxy = ss.load_proxy(ss.ProxyConfig(model=str(folder.resolve())), ss.GradientConfig())
            examples = [example for example, _ in encoded(pool, proxy.tokenizer, given.max_length)]
            torch.save(ss.collect_gradients(proxy.model, examples, ss.GradientConfig(normalize="none")), path)
            made["rows"] = digest_of([example.input_ids for example in examples])
            about.write_text(json.dumps(made), encoding="utf-8")
            print(f"{datetime.now(UTC):%H:%M:%S} {name}: {made}", file=sys.stderr, flush=True)
        found[name] = torch.load(path, weights_only=True)
        facts[name] = json.loads(about.read_text(encoding="utf-8"))
    if len({one["rows"] for one in facts.values()}) > 1 or len({len(one) for one in found.values()}) > 1:
        raise RuntimeError("the models read the pool as different rows, so that their choices cannot be compared")
    return found, facts
