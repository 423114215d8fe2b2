"""Measure one shard of the pool, and put the pool together again from the stored shards.

A sample's *position* is its 0-based index among the usable rows of the data set: the one number by which shards,
pool and result refer to it. Worker and library call the same two functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from spice_select.arrays import StackedArrays, rounded
from spice_select.config import GradientConfig
from spice_select.errors import EmptyPoolError, MismatchedShardError
from spice_select.gradients.per_sample import measure
from spice_select.records.tokenize import encode
from spice_select.selection.validation import group_of
from spice_select.storage.shards import GradientShard, map_shard, read_shard

if TYPE_CHECKING:
    from spice_select.models.proxy import Proxy
    from spice_select.records.records import Message

UNUSABLE = {
    "gradient-not-finite": "the loss or its gradient is NaN or infinite",
    "gradient-zero": "the gradient is zero: the proxy model has nothing to learn from it",
}
"""Why a measured sample is no candidate."""

MEMORY_SHARE = 0.5
"""Share of the memory that the gradients of a pool may take; a larger pool is read from the disk, in blocks."""

MeasureProgress = Callable[[int, int, int], None]
"""Called with completed samples, total samples and tokens so far."""


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
    """

    features: np.ndarray | StackedArrays
    positions: np.ndarray
    losses: np.ndarray
    tokens: np.ndarray
    label_tokens: np.ndarray
    excluded: list[dict[str, Any]]
    truncated: list[int]
    halvings: int


def read_conversations(rows_path: Path) -> list[list[Message]]:
    """The conversations of one shard of usable rows, in order."""
    column = pq.read_table(rows_path, columns=["messages"]).column("messages")
    return [json.loads(text) for text in column.to_pylist()]


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


def measure_shard(
    rows_path: Path,
    first_position: int,
    proxy: Proxy,
    config: GradientConfig,
    *,
    header: dict[str, Any],
    on_progress: MeasureProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> GradientShard:
    """Gradients of the samples of one shard of usable rows.

    A sample whose gradient is zero or not finite is no candidate: it teaches nothing, or nobody can tell what. It is
    listed in ``excluded`` like one that is too long.

    Args:
        rows_path: A ``rows-*.parquet`` of the intake.
        first_position: Position of the shard's first sample.
        proxy: The loaded proxy model and its tokenizer.
        config: What is measured.
        header: What the shard is to say about itself; must hold ``fingerprint``. ``halvings``, and
            ``batch_tokens`` where it is not the default, are added.
        on_progress: Called after each batch.
        should_stop: Asked once a batch.

    Returns:
        The shard, its rows in increasing position.

    Raises:
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by measure()
    if config.batch_tokens != GradientConfig.model_fields["batch_tokens"].default:
        header = {**header, "batch_tokens": config.batch_tokens}
    encoding = encode(
        read_conversations(rows_path), proxy.tokenizer, max_length=config.max_length, overflow=config.overflow
    )
    excluded: list[dict[str, Any]] = [
        {"row": first_position + item.index, "code": item.code, "detail": item.detail} for item in encoding.excluded
    ]
    truncated = [first_position + index for index in encoding.truncated]
    positions = np.asarray(encoding.kept, dtype=np.int64) + first_position
    if not encoding.examples:
        nothing = np.zeros(0, dtype=np.int64)
        return GradientShard(
            features=np.zeros((0, 0), dtype=np.float32),
            rows=positions,
            losses=np.zeros(0, dtype=np.float64),
            tokens=nothing,
            label_tokens=nothing,
            excluded=excluded,
            truncated=truncated,
            header={**header, "halvings": 0},
            dtype=config.store_dtype,
        )
    measured = measure(proxy.model, encoding.examples, config, on_progress=on_progress, should_stop=should_stop)
    features = rounded(np.asarray(measured.features, dtype=np.float32), config.store_dtype)
    finite = np.asarray(measured.finite, dtype=bool) & np.isfinite(features).all(axis=1)
    usable = finite & features.any(axis=1)
    lost = positions[~usable].tolist()
    for reason, rows in (("gradient-not-finite", positions[~finite]), ("gradient-zero", positions[finite & ~usable])):
        excluded += [{"row": row, "code": reason, "detail": UNUSABLE[reason]} for row in rows.tolist()]
    excluded.sort(key=lambda item: item["row"])
    return GradientShard(
        features=features[usable],
        rows=positions[usable],
        losses=np.asarray(measured.losses, dtype=np.float64)[usable],
        tokens=np.asarray(measured.tokens, dtype=np.int64)[usable],
        label_tokens=np.asarray(measured.label_tokens, dtype=np.int64)[usable],
        excluded=excluded,
        truncated=[row for row in truncated if row not in set(lost)],
        header={**header, "halvings": measured.halvings},
        dtype=config.store_dtype,
    )


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


def _for_each(fingerprint: str | Sequence[str], count: int) -> Sequence[str]:
    return [fingerprint] * count if isinstance(fingerprint, str) else fingerprint


def _together(shards: list[GradientShard]) -> tuple[Pool, list[GradientShard]]:
    """The pool without its features, and the shards that hold them.

    Raises:
        MismatchedShardError: A shard of another width, or out of order.
        EmptyPoolError: No candidate is left.
    """
    excluded = [item for shard in shards for item in shard.excluded]
    filled = [shard for shard in shards if len(shard.rows)]
    if not filled:
        raise EmptyPoolError(f"no usable sample is left: all {len(excluded)} were excluded")
    widths = {shard.features.shape[1] for shard in filled}
    if len(widths) != 1:
        raise MismatchedShardError(f"gradient shards of {len(widths)} widths in one pool: {sorted(widths)}")
    positions = np.concatenate([shard.rows for shard in filled])
    if np.any(np.diff(positions) <= 0):
        raise MismatchedShardError("gradient shards overlap or are not in the order of the data set")
    pool = Pool(
        features=filled[0].features[:0],
        positions=positions,
        losses=np.concatenate([shard.losses for shard in filled]),
        tokens=np.concatenate([shard.tokens for shard in filled]),
        label_tokens=np.concatenate([shard.label_tokens for shard in filled]),
        excluded=excluded,
        truncated=[row for shard in shards for row in shard.truncated],
        halvings=sum(int(shard.header.get("halvings", 0)) for shard in shards),
    )
    return pool, filled
