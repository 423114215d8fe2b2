"""What the proxy says about rows: gradients, losses, embeddings; measured in blocks that are cached one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import spice_select as ss
from benchmarks.quality.cache import Arrays, Cache
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.gradients.per_sample import measure
from spice_select.models.compute_type import claims_bfloat16
from spice_select.models.proxy import Proxy
from spice_select.records.tokenize import IGNORED, Example

MEASURED = {"targets", "sketch_dim", "loss", "normalize", "seed"}
"""Settings that decide a gradient once tokens, labels and model are fixed."""
BLOCKS = {"cpu": 32, "cuda": 1024}
"""Rows of a unit by device: half a minute of one core at 256 tokens a row."""


@dataclass(frozen=True)
class Measured:
    """What was measured about n rows.

    Attributes:
        features: float32 of shape (n, d): projected gradients of unit length, zero where there is none.
        losses: float64 of shape (n,): mean loss of the response tokens, nats.
        norms: float64 of shape (n,): length of each gradient before it was scaled.
        tokens: int64 of shape (n,): tokens of the row.
        response_tokens: int64 of shape (n,): tokens among them that are learned.
    """

    features: np.ndarray
    losses: np.ndarray
    norms: np.ndarray
    tokens: np.ndarray
    response_tokens: np.ndarray


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 by itself.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    return device != "cpu" or claims_bfloat16()


class Features:
    """Measures rows with one model.

    Args:
        folder: The model's folder.
        cache: Keeps every block.
        device: ``cpu`` or ``cuda``.
        max_tokens: Longest row in tokens.
        dtype: Type the model computes in; by default bfloat16 where the device has it.

    Attributes:
        proxy: The model with its tokenizer.
        dtype: Type the model computes in.
    """

    def __init__(self, folder: str, cache: Cache, device: str, max_tokens: int, dtype: str | None = None) -> None:
        self.dtype = dtype or ("bfloat16" if has_bfloat16(device) else "float32")
        self._config = GradientConfig.model_validate({"dtype": self.dtype, "max_length": max_tokens})
        self.proxy: Proxy = ss.load_proxy(ProxyConfig(model=folder), self._config, device=device)
        self._cache, self._rows = cache, BLOCKS[device]

    @property
    def identity(self) -> list[str]:
        """What names the model: digests of weights and tokenizer, and the type it computes in."""
        return [self.proxy.weights_sha256, self.proxy.tokenizer_sha256, self.dtype]

    @property
    def block_sizes(self) -> list[int]:
        """Numbers of each layer in a row of the features."""
        from spice_select.gradients.targets import find_targets

        return [target.size for target in find_targets(self.proxy.model, self._config)]

    def examples(self, records: Sequence[dict[str, str]]) -> list[Example]:
        """The rows as the model sees them.

        Args:
            records: Rows with ``instruction`` and ``output``.
        """
        return ss.load_examples(records, self.proxy.tokenizer, max_length=self._config.max_length)

    def blocks(self, examples: Sequence[Example]) -> list[list[Example]]:
        """The units in which rows are measured.

        Args:
            examples: Rows.
        """
        return [list(examples[start : start + self._rows]) for start in range(0, len(examples), self._rows)]

    def block(self, examples: Sequence[Example]) -> Arrays:
        """Gradients of one unit.

        Args:
            examples: Its rows.

        Raises:
            BusyError: Another process measures it.
        """
        return self._cache.arrays("gradients", self._key(examples), lambda: self._take(examples))

    def is_measured(self, examples: Sequence[Example]) -> bool:
        """Whether the gradients of a unit are there.

        Args:
            examples: Its rows.
        """
        return self._cache.has_arrays("gradients", self._key(examples))

    def measured(self, examples: Sequence[Example]) -> Measured:
        """Everything about some rows.

        Args:
            examples: Rows.
        """
        parts = [self.block(block) for block in self.blocks(examples)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Measured(
            whole["features"].astype(np.float32), whole["losses"], whole["norms"], whole["tokens"], whole["learned"]
        )

    def embedded(self, examples: Sequence[Example]) -> np.ndarray:
        """Position-weighted means of the last hidden states (RDS+), float32 of shape (n, hidden), unit length.

        Args:
            examples: Rows.
        """
        parts = [
            self._cache.arrays("embeddings", [self.identity, _said(block)], lambda b=block: {"rows": self._embed(b)})
            for block in self.blocks(examples)
        ]
        return np.concatenate([part["rows"] for part in parts])

    def _key(self, examples: Sequence[Example]) -> list[Any]:
        return [self.identity, self._config.model_dump(mode="json", include=MEASURED), _said(examples)]

    def _take(self, examples: Sequence[Example]) -> Arrays:
        measured = measure(self.proxy.model, examples, self._config)
        return {
            "features": measured.features.to(torch.float16).numpy(),
            "losses": measured.losses.numpy(),
            "norms": measured.norms.numpy(),
            "tokens": measured.tokens.numpy(),
            "learned": measured.label_tokens.numpy(),
        }

    def _embed(self, examples: Sequence[Example]) -> np.ndarray:
        config = self._config.model_copy(update={"measure": "embedding"})
        return measure(self.proxy.model, examples, config).features.numpy()


def response_tokens(example: Example) -> int:
    """Tokens of a row that are learned.

    Args:
        example: The row.
    """
    return len(example.labels[1:]) - example.labels[1:].count(IGNORED)


def _said(examples: Sequence[Example]) -> list[list[list[int]]]:
    return [[example.input_ids, example.labels] for example in examples]
