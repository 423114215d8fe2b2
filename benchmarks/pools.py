"""Pools for the benchmarks of the selection: gradients of a real model on real rows, in any number and dimension.

The gradients of ``builtin:tiny`` on the rows of a file are taken once, with ``WIDE`` numbers each, and kept in a
scratch folder. A pool of fewer numbers is a fixed Gaussian projection of them. Where a pool needs more rows than the
file has, a row is a real gradient plus up to half of another one, with a random sign. Every row has length one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from spice_select.config import GradientConfig
from spice_select.gradients.collect import collect_gradients
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer
from spice_select.records.tokenize import load_examples

BUNDLED = Path(__file__).parent.parent / "examples" / "bundled.jsonl"
SKETCH = 512
"""Numbers kept of every layer's gradient."""
WIDE = 14 * SKETCH
"""Numbers of a gradient: ``builtin:tiny`` has 14 linear layers."""
MOST_TOKENS = 256
"""Longest row, tokens."""
LORA_SIZE = 720_896
"""Numbers in one gradient of rank-16 adapters in the paper's code."""
BLOCK = 4096
"""Rows made at once; part of what a pool is, because each block has a random stream of its own."""


@dataclass(frozen=True)
class Source:
    """Where the rows of a pool come from.

    Attributes:
        file: JSON lines, plain or gzipped, in any form the library reads.
        rows: Most rows of it to use.
        scratch: Folder for gradients and pools.
        seed: Seed of projections and mixtures.
    """

    file: Path
    rows: int
    scratch: Path
    seed: int

    def gradients(self) -> np.ndarray:
        """Gradients of the file's rows, a float32 memory map of shape (n, ``WIDE``) without all-zero rows."""
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()[:12]
        path = self.scratch / f"gradients-{digest}-{self.rows}-{WIDE}.npy"
        if not path.exists():
            config = GradientConfig(sketch_dim=SKETCH, max_length=MOST_TOKENS)
            measured = _measure(self.file, self.rows, build_tiny_model(), build_tiny_tokenizer(), config)
            _save(path, measured[measured.any(dim=1)].numpy())
        kept: np.ndarray = np.load(path, mmap_mode="r")
        return kept

    def pool(self, rows: int, dimension: int) -> np.ndarray:
        """A pool of so many rows and numbers, a float32 memory map of shape (rows, dimension)."""
        path = self.pool_path(rows, dimension)
        if not path.exists():
            real = self._projected(dimension)
            partial = path.with_suffix(".partial")
            made = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(rows, dimension))
            for first in range(0, rows, BLOCK):
                made[first : first + BLOCK] = self._block(real, first, min(BLOCK, rows - first))
            made.flush()
            partial.rename(path)
        pool: np.ndarray = np.load(path, mmap_mode="r")
        return pool

    def pool_path(self, rows: int, dimension: int) -> Path:
        """Where that pool is, once made."""
        return self.scratch / f"pool-{self.file.stem}-{self.rows}-{rows}-{dimension}-{self.seed}.npy"

    def _projected(self, dimension: int) -> torch.Tensor:
        wide = self.gradients()
        if dimension == WIDE:
            return torch.from_numpy(np.array(wide))
        draw = torch.Generator().manual_seed(self.seed)
        matrix = torch.randn(WIDE, dimension, generator=draw) / math.sqrt(dimension)
        parts = [torch.from_numpy(np.array(wide[at : at + BLOCK])) @ matrix for at in range(0, len(wide), BLOCK)]
        return torch.nn.functional.normalize(torch.cat(parts), dim=1)

    def _block(self, real: torch.Tensor, first: int, count: int) -> np.ndarray:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + first + 1)
        numbers = torch.arange(first, first + count)
        block = real[numbers % len(real)].clone()
        mixed = numbers >= len(real)
        partners = real[torch.randint(len(real), (count,), generator=draw)]
        weights = torch.rand(count, 1, generator=draw) - 0.5
        block[mixed] += (weights * partners)[mixed]
        result: np.ndarray = torch.nn.functional.normalize(block, dim=1).numpy()
        return result


def exact_gradients(file: Path, rows: int) -> torch.Tensor:
    """Gradients, without any projection, of a model with ``LORA_SIZE`` weights in its linear layers.

    Args:
        file: JSON lines.
        rows: Its first rows to measure.

    Returns:
        float32 of shape (rows, ``LORA_SIZE``), each as long as it is.
    """
    settings: Any = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 11}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    tokenizer = build_tiny_tokenizer()
    model: Any = Qwen2ForCausalLM(Qwen2Config(**settings, **heads, vocab_size=len(tokenizer))).eval()
    return _measure(file, rows, model, tokenizer, GradientConfig(sketch_dim=None, normalize="none", max_length=128))


def _measure(file: Path, limit: int, model: Any, tokenizer: Any, config: GradientConfig) -> torch.Tensor:
    opened: Any = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for _, line in zip(range(limit), lines, strict=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows with nothing to learn become zeros, which are left out
        examples = load_examples(records, tokenizer, max_length=config.max_length)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too narrow for more
    try:
        return collect_gradients(model, examples, config)
    finally:
        torch.set_num_threads(threads)


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.rename(path)
