"""A warm-up on disk: which rows of the pool it sees, and the weights it leaves, checked when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from spice_select.config import GradientConfig
from spice_select.errors import EmptyPoolError, MismatchedShardError
from spice_select.records.conversation import load_conversation
from spice_select.records.objectives import warmup_objective
from spice_select.records.tokenize import Example, encode
from spice_select.storage.shards import read_some_tensors, write_tensors
from spice_select.training.warmup import put_on, warm_up
from spice_select.version import WARMUP_FORMAT

if TYPE_CHECKING:
    from spice_select.models.proxy import Proxy
    from spice_select.records.conversation import Conversation

FIRST_ROWS = 256
"""Rows that are read to learn how long rows are."""


@dataclass(frozen=True)
class Warmup:
    """What a warm-up left.

    Attributes:
        weights: Tuned weights by name.
        sha256: Digest (hex) of the file that holds them.
        result: ``steps``, ``rows`` of the sample, ``tokens`` and ``learned_tokens`` that went through the model, and
            ``last_loss``, nats per token over the last tenth of the steps; ``halvings`` where memory was short.
    """

    weights: dict[str, np.ndarray]
    sha256: str
    result: dict[str, Any]


def make_warmup(
    path: Path,
    rows_shards: Sequence[Path],
    proxy: Proxy,
    config: GradientConfig,
    fingerprint: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Warmup:
    """Tune a proxy model on a sample of the pool and write what that leaves; the model itself stays as it was.

    Args:
        path: Where to; the file is whole or not there.
        rows_shards: The intake's ``rows-*.parquet``, in order.
        proxy: The loaded proxy model and its tokenizer.
        config: How it is done.
        fingerprint: Of everything that decides the weights.
        on_progress: Called as (steps taken, all steps) after each.
        should_stop: Asked before every step.

    Raises:
        EmptyPoolError: No row of the pool can be learned from.
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    examples = warmup_examples(rows_shards, proxy.tokenizer, config)
    weights, spent = warm_up(proxy.model, examples, config, on_progress=on_progress, should_stop=should_stop)
    result = {
        "steps": spent.steps,
        "rows": len(examples),
        "tokens": spent.tokens,
        "learned_tokens": spent.learned_tokens,
        "last_loss": spent.last_loss,
        # Only where it says something: the same weights keep the same file.
        **({"halvings": spent.halvings} if spent.halvings else {}),
    }
    about = {"format": WARMUP_FORMAT, "header": {"fingerprint": fingerprint, "result": result}}
    return Warmup(weights, write_tensors(path, weights, about), result)


def read_warmup(path: Path, fingerprint: str, sha256: str | None = None) -> Warmup:
    """Read what a warm-up left and check every byte of it.

    Args:
        path: The file.
        fingerprint: What it must have been made from.
        sha256: Digest (hex) the file must have, where it is known.

    Raises:
        CorruptShardError: A file that is missing, cut short or changed.
        MismatchedShardError: A sound file of another warm-up or format.
    """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by read_some_tensors()
    weights, about, found = read_some_tensors(path, sha256)
    if about["format"] != WARMUP_FORMAT or about["header"].get("fingerprint") != fingerprint:
        raise MismatchedShardError(f"{path.name} holds another warm-up")
    return Warmup(weights, found, about["header"]["result"])


def put_on_proxy(proxy: Proxy, warmup: Warmup, config: GradientConfig) -> None:
    """Put the tuned weights onto a proxy model, in place.

    Args:
        proxy: As it was loaded.
        warmup: What the warm-up left.
        config: How it was done.
    """
    put_on(proxy.model, warmup.weights, config)


def warmup_examples(rows_shards: Sequence[Path], tokenizer: Any, config: GradientConfig) -> list[Example]:
    """The sample that a warm-up sees: the first rows in an order by digest of seed and row, until there are enough.

    The order depends on the content of the rows alone, not on their place in the data set or on who reads them.

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
        tokenizer: The proxy's.
        config: ``warmup_steps``, ``tuning.step_tokens``, ``seed``, ``max_length`` and ``overflow`` are read.

    Raises:
        EmptyPoolError: No row can be learned from.
    """
    digests = [
        digest for path in rows_shards for digest in pq.read_table(path, columns=["row_sha256"]).column(0).to_pylist()
    ]
    order = sorted(range(len(digests)), key=lambda place: (_drawn(config.seed, digests[place]), place))
    wanted, tokens, start = config.warmup_steps * config.tuning.step_tokens, 0, 0
    examples: list[Example] = []
    count = FIRST_ROWS
    while tokens < wanted and start < len(order):
        conversations = _conversations(rows_shards, order[start : start + count])
        encoding = encode(
            conversations,
            tokenizer,
            max_length=config.max_length,
            overflow=config.overflow,
            today=config.chat_date,
            objective=warmup_objective(config.objective),
        )
        for example in encoding.examples:
            if tokens < wanted:
                examples.append(example)
                tokens += len(example.input_ids)
        start += count
        count = max(FIRST_ROWS, round(1.1 * (wanted - tokens) * start / max(1, tokens)))
    if not examples:
        raise EmptyPoolError("no row of the pool can be learned from")
    return examples


def _drawn(seed: int, row_sha256: str) -> str:
    return hashlib.sha256(f"warm-up {seed} {row_sha256}".encode()).hexdigest()


def _conversations(rows_shards: Sequence[Path], positions: Sequence[int]) -> list[Conversation]:
    """Conversations at these positions among the usable rows, in the order asked for; each shard is read once."""
    found: dict[int, Conversation] = {}
    first, wanted = 0, set(positions)
    for path in rows_shards:
        rows = pq.read_metadata(path).num_rows
        here = [position for position in wanted if first <= position < first + rows]
        if here:
            column = pq.read_table(path, columns=["messages"]).column(0)
            found.update((position, load_conversation(column[position - first].as_py())) for position in here)
        first += rows
    return [found[position] for position in positions]
