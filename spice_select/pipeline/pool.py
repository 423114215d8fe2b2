"""Put the pool together from the stored gradient shards, in memory or on the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow.parquet as pq

from spice_select.arrays import StackedArrays, StoreDtype
from spice_select.errors import EmptyPoolError, MismatchedShardError
from spice_select.records.conversation import Conversation, load_conversation, said
from spice_select.selection.validation import group_of
from spice_select.storage.shards import GradientShard, map_shard, read_shard

MEMORY_SHARE = 0.5
"""Share of the memory that the gradients of a pool may take; a larger pool is read from the disk, in blocks."""


@dataclass(frozen=True)
class Pool:
    """Every candidate of a data set, in the order of the data set.

    Attributes:
        features: float32 of shape (n, d), row i is the gradient of candidate i; in memory or on the disk.
        positions: int64 array of shape (n,), position of candidate i among the usable rows; strictly increasing.
        losses: float64 array of shape (n,), loss of candidate i in nats.
        tokens: int64 array of shape (n,), tokens of prompt and response of candidate i.
        label_tokens: int64 array of shape (n,), tokens candidate i is trained on.
        excluded: Samples that are no candidates, each ``{"row": position, "code", "detail"}``.
        truncated: Positions of candidates that were cut at the maximal length.
        halvings: How often a batch had to be halved for lack of memory, over all shards.
        notes: What the chat template leaves out: a code of ``encoding_notes`` and how many rows it is about.
        block_sizes: Numbers of each measured weight in a gradient, in their order; empty where shards do not say.
        stored: Type in which features are kept, which says how well they are known.
    """

    features: np.ndarray | StackedArrays
    positions: np.ndarray
    losses: np.ndarray
    tokens: np.ndarray
    label_tokens: np.ndarray
    excluded: list[dict[str, Any]]
    truncated: list[int]
    halvings: int
    block_sizes: tuple[int, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    stored: StoreDtype = "float32"


def read_groups(rows_shards: Sequence[Path], column: str, positions: Sequence[int]) -> list[str]:
    """The group of each candidate: what its record says in a column, as text; empty where it says nothing.

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
        column: Column of the records.
        positions: Position of each candidate among the usable rows.
    """
    groups: list[str] = []
    for path in rows_shards:
        for text in pq.read_table(path, columns=["record"]).column("record").to_pylist():
            groups.append(group_of(text, column))
    return [groups[position] for position in positions]


def read_texts(rows_shards: Sequence[Path]) -> list[str]:
    """What every usable row says, prompt and response, and the rejected one.

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
    """
    return [said(conversation) for conversation in read_conversations(rows_shards)]


def read_conversations(rows_shards: Sequence[Path]) -> list[Conversation]:
    """The conversation of every usable row.

    Args:
        rows_shards: The intake's ``rows-*.parquet``, in order.
    """
    return [
        load_conversation(text)
        for path in rows_shards
        for text in pq.read_table(path, columns=["messages"]).column("messages").to_pylist()
    ]


def load_pool(shards: Sequence[tuple[Path, str | None]], fingerprint: str | Sequence[str]) -> Pool:
    """The pool, put together from its shards in the order given.

    Args:
        shards: Path and sha256 (hex; None where it is not known) of each gradient shard, in data set order.
        fingerprint: What every shard must have been made from, or one for each.

    Returns:
        The pool. Peak memory is about the pool's features and one shard.

    Raises:
        CorruptShardError: The bytes of a shard do not match their digest.
        MismatchedShardError: A shard of another fingerprint, of another width, or out of order.
        EmptyPoolError: No candidate is left.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by read_shard() and _together()
    made_from = _for_each(fingerprint, len(shards))
    pool, filled = _together(
        [
            read_shard(path, sha256=digest, fingerprint=name)
            for (path, digest), name in zip(shards, made_from, strict=True)
        ]
    )
    # Pages of a fresh array are only taken when written, and each shard is let go once copied:
    # the features are never in memory twice.
    features = np.empty((len(pool.positions), filled[0].features.shape[1]), dtype=np.float32)
    end = len(features)
    while filled:
        shard = filled.pop()
        features[end - len(shard.rows) : end] = shard.features
        end -= len(shard.rows)
        del shard
    return replace(pool, features=features)


def pool_within(shards: Sequence[tuple[Path, str | None]], fingerprint: str | Sequence[str], memory_bytes: int) -> Pool:
    """The pool in memory where it takes no more than ``MEMORY_SHARE`` of it, else with its features on the disk.

    Args:
        shards: As for ``load_pool``. The files must stay as they are while the pool is in use.
        fingerprint: As for ``load_pool``.
        memory_bytes: What there is, bytes.

    Raises:
        CorruptShardError: The bytes of a shard do not match their digest, or it is missing.
        MismatchedShardError: A shard of another fingerprint, of another width, or out of order.
        EmptyPoolError: No candidate is left.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by load_pool() and open_pool()
    stored = sum(path.stat().st_size for path, _ in shards if path.exists())
    return (load_pool if stored <= MEMORY_SHARE * memory_bytes else open_pool)(shards, fingerprint)


def open_pool(shards: Sequence[tuple[Path, str | None]], fingerprint: str | Sequence[str]) -> Pool:
    """The pool with its features left on the disk: what is not asked for takes no memory.

    Args:
        shards: As for ``load_pool``. The files must stay as they are while the pool is in use; each is read once, in
            blocks, to check its digest.
        fingerprint: As for ``load_pool``.

    Raises:
        CorruptShardError: The bytes of a shard do not match their digest.
        MismatchedShardError: A shard of another fingerprint, of another width, or out of order.
        EmptyPoolError: No candidate is left.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by map_shard() and _together()
    made_from = _for_each(fingerprint, len(shards))
    pool, filled = _together(
        [map_shard(path, digest, name) for (path, digest), name in zip(shards, made_from, strict=True)]
    )
    return replace(pool, features=StackedArrays([shard.features for shard in filled]))


def refuse_empty(excluded: Sequence[dict[str, Any]]) -> NoReturn:
    """Say why a pool has no candidates: how many were excluded for which reason, and the first ten.

    Args:
        excluded: All of them, each with ``row``, ``code`` and ``detail``.

    Raises:
        EmptyPoolError: Always.
    """
    counts = Counter(str(item["code"]) for item in excluded)
    listed = ", ".join(f"{code} {count}" for code, count in counts.most_common())
    errors = [
        {"detail": f"{item['code']}: {item['detail']}", "pointer": f"#/rows/{item['row']}"} for item in excluded[:10]
    ]
    why = f" ({excluded[0]['detail']})" if excluded else ""
    raise EmptyPoolError(
        f"no usable sample is left: all {len(excluded)} were excluded: {listed}{why}",
        errors=errors,
        reasons=dict(counts.most_common()),
    )


def _for_each(fingerprint: str | Sequence[str], count: int) -> Sequence[str]:
    return [fingerprint] * count if isinstance(fingerprint, str) else fingerprint


def _together(shards: list[GradientShard]) -> tuple[Pool, list[GradientShard]]:
    """The pool without its features, and the shards that hold them.

    Raises:
        MismatchedShardError: A shard of another width, or out of order.
        EmptyPoolError: No candidate is left.
    """  # ruff: ignore[docstring-extraneous-exception] - the last is raised by refuse_empty()
    excluded = [item for shard in shards for item in shard.excluded]
    filled = [shard for shard in shards if len(shard.rows)]
    if not filled:
        refuse_empty(excluded)
    widths = {shard.features.shape[1] for shard in filled}
    if len(widths) != 1:
        raise MismatchedShardError(f"gradient shards of {len(widths)} widths in one pool: {sorted(widths)}")
    positions = np.concatenate([shard.rows for shard in filled])
    if np.any(np.diff(positions) <= 0):
        raise MismatchedShardError("gradient shards overlap or are not in the order of the data set")
    coarsest: StoreDtype = next(
        (kind for kind in ("bfloat16", "float16") if any(shard.dtype == kind for shard in filled)), "float32"
    )
    pool = Pool(
        stored=coarsest,
        features=filled[0].features[:0],
        positions=positions,
        losses=np.concatenate([shard.losses for shard in filled]),
        tokens=np.concatenate([shard.tokens for shard in filled]),
        label_tokens=np.concatenate([shard.label_tokens for shard in filled]),
        excluded=excluded,
        truncated=[row for shard in shards for row in shard.truncated],
        halvings=sum(int(shard.header.get("halvings", 0)) for shard in shards),
        notes=sum((Counter(shard.header.get("notes", {})) for shard in shards), Counter[str]()),
        block_sizes=tuple(filled[0].header.get("block_sizes", ())),
    )
    return pool, filled
