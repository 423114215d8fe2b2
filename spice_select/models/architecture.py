"""The sizes of a proxy model, read off its ``config.json`` alone: no torch, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spice_select.config import GradientConfig
from spice_select.method_names import WORD_FEATURES
from spice_select.models.projection_shape import sketch_shape

GATED = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2", "smollm3"})
"""Kinds with separate query, key, value and output layers and a gated feed-forward."""
TINY = {
    "model_type": "qwen2", "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
}  # fmt: skip
"""``config.json`` of ``builtin:tiny``, as far as its sizes go."""


@dataclass(frozen=True)
class ProxyShape:
    """Sizes of a causal language model.

    Attributes:
        blocks: Transformer blocks.
        layers: (inputs, outputs) of each linear layer of one block.
        vocabulary: Tokens, v.
        width: Hidden size.
        embeddings: Matrices of shape (vocabulary, width): 1 when the head shares that of the input, else 2.
    """

    blocks: int
    layers: tuple[tuple[int, int], ...]
    vocabulary: int
    width: int
    embeddings: int

    @property
    def parameters(self) -> int:
        """Weights of all matrices; norms and biases are left out, far below one in a hundred."""
        return self.blocks * sum(i * o for i, o in self.layers) + self.embeddings * self.vocabulary * self.width

    def features(self, config: GradientConfig) -> int:
        """Numbers that are kept of one sample, d."""
        if config.measure != "gradient":
            return WORD_FEATURES if config.measure == "words" else self.width
        blocks = self.blocks - self.blocks // 2 if config.layers == "last_half" else self.blocks
        if config.targets == "lora":
            up = sum(sketch_shape(config.lora_rank, outputs, config.sketch_dim).size for _, outputs in self.layers)
            down = sum(sketch_shape(inputs, config.lora_rank, config.sketch_dim).size for inputs, _ in self.layers)
            # Of fresh adapters only B has a gradient.
            return blocks * (up + down if config.tunes_adapters else up)
        return blocks * sum(sketch_shape(inputs, outputs, config.sketch_dim).size for inputs, outputs in self.layers)


def proxy_shape(config: Mapping[str, Any]) -> ProxyShape | None:
    """The sizes of a model.

    Args:
        config: Content of its ``config.json``.

    Returns:
        None for a kind of model whose layers are not known here.
    """
    kind = config.get("model_type")
    layers: tuple[tuple[int, int], ...]
    try:
        if kind == "gpt2":
            return _gpt2(config)
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        inner = int(config.get("intermediate_size") or 4 * width)
        size = int(config.get("head_dim") or width // heads)
        queries, keys = heads * size, int(config.get("num_key_value_heads") or heads) * size
        if kind in GATED:
            attention = ((width, queries), (width, keys), (width, keys), (queries, width))
            layers = (*attention, (width, inner), (width, inner), (inner, width))
        elif kind == "phi3":
            layers = ((width, queries + 2 * keys), (queries, width), (width, 2 * inner), (inner, width))
        elif kind == "gpt_neox":
            layers = ((width, 3 * width), (width, width), (width, inner), (inner, width))
        else:
            return None
        tied = bool(config.get("tie_word_embeddings", kind in {"gemma", "gemma2", "gemma3_text"}))
        return ProxyShape(int(config["num_hidden_layers"]), layers, int(config["vocab_size"]), width, 1 if tied else 2)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _gpt2(config: Mapping[str, Any]) -> ProxyShape:
    width = int(config["n_embd"])
    inner = int(config.get("n_inner") or 4 * width)
    layers = ((width, 3 * width), (width, width), (width, inner), (inner, width))
    return ProxyShape(int(config["n_layer"]), layers, int(config["vocab_size"]), width, 1)
