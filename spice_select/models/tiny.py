"""The built-in proxy ``builtin:tiny``: a Qwen2 model of about 150,000 weights, made in code from a seed.

It needs no download and has the same weights on every machine: they come from SHAKE-256 and exact arithmetic, not
from a random generator whose stream may change with a library. It was never trained. Its tokenizer needs no torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config

from spice_select.models.tiny_vocabulary import PIECES

SPECIAL_TOKENS = ("<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""They come after the 256 bytes (whose ids are the bytes themselves) and the pieces."""

CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}"
    "# Tools\n\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools><|im_end|>\n{% endif %}"
    "{% for message in messages %}{% if not (tools and loop.first and message['role'] == 'system') %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% if message['reasoning_content'] %}<think>\n{{ message['reasoning_content'] }}\n</think>\n\n{% endif %}"
    "{{ message['content'] or '' }}{% for call in message['tool_calls'] or [] %}"
    "{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    '{"name": {{ call["function"]["name"] | tojson }}, "arguments": {{ call["function"]["arguments"] | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SEED = "spice-select builtin:tiny 1"
_CONTEXT = 32768


def tiny_config() -> Any:
    """Shape of the model: hidden size 64, two layers, two heads that share keys and values, 1024 tokens."""
    pad = 256 + len(PIECES)
    return Qwen2Config(
        vocab_size=pad + len(SPECIAL_TOKENS),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=pad + 1,
        pad_token_id=pad,
    )


def build_tiny_model() -> Any:
    """The model in float32 on the CPU; leaves the global random state as it found it."""
    import torch
    from transformers import Qwen2ForCausalLM

    with torch.random.fork_rng(devices=[]):
        model = Qwen2ForCausalLM(tiny_config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                # Matrices keep the size of what goes through them; embedding rows get length one.
                values = _uniform(name, parameter.numel(), 1 / math.sqrt(parameter.shape[1]))
                parameter.copy_(torch.from_numpy(values).view_as(parameter))
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.fill_(1.0)
    model.train(mode=False)
    return model


def build_tiny_tokenizer() -> Any:
    """Byte-level tokenizer with a ChatML template that marks what is learned."""
    vocabulary = {piece: index for index, piece in enumerate((*_byte_characters(), *PIECES))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(PIECES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    pad, eos, start, end = SPECIAL_TOKENS
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        additional_special_tokens=[start, end],
        chat_template=CHAT_TEMPLATE,
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _uniform(name: str, count: int, deviation: float) -> np.ndarray:
    """Uniform float32 numbers of mean 0 and the given standard deviation, fixed by the name."""
    stream = hashlib.shake_256(f"{_SEED} {name}".encode()).digest(4 * count)
    unit = (np.frombuffer(stream, dtype="<u4").astype(np.float64) + 0.5) / 2**31 - 1.0
    return (unit * (deviation * math.sqrt(3.0))).astype(np.float32)


def _merges(pieces: Sequence[str]) -> list[tuple[str, str]]:
    """The two parts each piece is merged from: what the merges before it leave of its characters."""
    ranks: dict[tuple[str, str], int] = {}
    for piece in pieces:
        parts = list(piece)
        while len(parts) > 2:
            at = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), len(ranks)))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ranks[parts[0], parts[1]] = len(ranks)
    return list(ranks)


def _byte_characters() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte, in the order of the bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]
