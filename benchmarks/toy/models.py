"""Language models made in code: a tokenizer from text, a small model trained on the same text from scratch.

The text is read as separate documents, prompts apart from responses and without any template: the model knows the
language of the pool but has never seen an answer below its question, which is what tuning on it then teaches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from spice_select.models.tiny import CHAT_TEMPLATE, SPECIAL_TOKENS

Architecture = Literal["qwen2", "llama", "gpt2"]
BLOCK = 256
"""Tokens of a training block."""


@dataclass(frozen=True)
class Size:
    """Shape of a model and how long it is trained: hidden size, layers, heads, tokens of text."""

    hidden: int
    layers: int
    heads: int
    tokens: int


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Byte-level BPE with a ChatML template that marks what is learned.

    It cuts text as the tokenizer of Qwen2 in transformers does, which is what a saved one becomes when it is loaded
    beside a Qwen2 model: with any other cut, models would be trained on other tokens than those they are judged by.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    pad, eos, start, end = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        additional_special_tokens=[start, end],
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def pretrained(
    documents: Sequence[str],
    tokenizer: Any,
    size: Size,
    *,
    seed: int,
    folder: Path,
    architecture: Architecture = "qwen2",
) -> dict[str, Any]:
    """Train a model from scratch on documents, save it with its tokenizer; what it cost and reached.

    Raises:
        RuntimeError: The tokenizer that is loaded with the model reads text otherwise than the one it was trained with.
    """
    ids: list[int] = []
    for document in tokenizer(list(documents), add_special_tokens=False).input_ids:
        ids += [*document, tokenizer.eos_token_id]
    blocks = torch.tensor(ids[: len(ids) // BLOCK * BLOCK]).view(-1, BLOCK)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(shape_of(architecture, size, tokenizer))
    batch = 8
    steps = max(1, size.tokens // (batch * BLOCK))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    rising = max(1, steps // 20)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / rising, 0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2),
    )
    order = torch.cat([torch.randperm(len(blocks)) for _ in range(1 + steps * batch // len(blocks))])
    model.train()
    losses = []
    began = time.monotonic()
    for step in range(steps):
        rows = blocks[order[step * batch : (step + 1) * batch]]
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        losses.append(float(loss.detach()))
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    for document in documents[:200]:
        if (
            loaded(document, add_special_tokens=False).input_ids
            != tokenizer(document, add_special_tokens=False).input_ids
        ):
            raise RuntimeError(f"the saved tokenizer reads {document[:80]!r} otherwise")
    last = losses[-max(1, steps // 20) :]
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "hidden": size.hidden,
        "layers": size.layers,
        "tokens": steps * batch * BLOCK,
        "passes": round(steps * batch / len(blocks), 2),
        "loss_first": round(losses[0], 3),
        "loss_last": round(sum(last) / len(last), 3),
        "seconds": round(time.monotonic() - began, 1),
    }


def shape_of(architecture: Architecture, size: Size, tokenizer: Any) -> Any:
    """Shape of a model of an architecture; the time it is trained is not looked at."""
    special = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
    }
    if architecture == "gpt2":
        return GPT2Config(
            n_embd=size.hidden, n_layer=size.layers, n_head=size.heads, n_positions=1024, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, **special,
        )  # fmt: skip
    return {"qwen2": Qwen2Config, "llama": LlamaConfig}[architecture](
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 8 // 3 // 16 * 16,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=1024,
        **special,
    )
