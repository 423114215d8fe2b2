"""Small models of every supported family, made in code with random weights: one per way of writing a transformer."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from spice_select.records.tokenize import Example

VOCABULARY = 53
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2Config(**_SIZES, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**_SIZES, head_dim=8),
    "llama": lambda: LlamaConfig(**_SIZES),
    "mistral": lambda: MistralConfig(**_SIZES, head_dim=6, sliding_window=8),
    "gemma2": lambda: Gemma2Config(
        **_SIZES, head_dim=8, sliding_window=8, query_pre_attn_scalar=8, final_logit_softcapping=3.0
    ),
    "phi3": lambda: Phi3Config(**_SIZES, original_max_position_embeddings=64),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=24,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
        embd_pdrop=0.3,
        resid_pdrop=0.3,
        attn_pdrop=0.3,
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**_SIZES),
    # adds to the output of a linear layer in place
    "falcon": lambda: FalconConfig(**_SIZES, ffn_hidden_size=40, parallel_attn=True, multi_query=True),
}


def build(family: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """A model of a family whose weights, norms and biases included, are all random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(FAMILIES[family]()).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.train(mode=False)


def nasty_examples(seed: int, count: int = 9, longest: int = 23) -> list[Example]:
    """Examples of all lengths: gaps in the labels, every token a label, a label on the first alone, none, no token."""
    draw = random.Random(seed)
    examples = []
    for _ in range(count):
        length = draw.randint(2, longest)
        ids = [draw.randrange(VOCABULARY) for _ in range(length)]
        labels = [token if draw.random() < 0.6 else -100 for token in ids]
        labels[-1] = ids[-1]
        examples.append(Example(ids, labels))
    everything = [draw.randrange(VOCABULARY) for _ in range(longest)]
    return [
        *examples,
        Example(everything, everything),
        Example([5, 6, 7], [5, -100, -100]),
        Example([9], [9]),
        Example([], []),
    ]


@contextmanager
def float64_throughout() -> Generator[None]:
    """Keep norms and softmaxes in float64: models round them to float32, which two correct ways round differently."""
    to, to_float, softmax = torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax

    def stay(tensor: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        if tensor.dtype == torch.float64 and arguments[:1] == (torch.float32,):
            return tensor
        return to(tensor, *arguments, **named)

    def wide(values: torch.Tensor, *arguments: Any, dtype: torch.dtype | None = None, **named: Any) -> torch.Tensor:
        return softmax(values, *arguments, dtype=torch.float64 if values.dtype == torch.float64 else dtype, **named)

    with (
        mock.patch.object(torch.Tensor, "float", lambda t: t if t.dtype == torch.float64 else to_float(t)),
        mock.patch.object(torch.Tensor, "to", stay),
        mock.patch.object(torch.nn.functional, "softmax", wide),
    ):
        yield
