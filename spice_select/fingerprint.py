"""The name of a set of gradients: two jobs with one fingerprint can share the computed gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spice_select.config import GradientConfig, RunConfig, digest_of
from spice_select.method_names import Measure
from spice_select.version import GRADIENT_FORMAT, PERIODIC_FORMAT, PREFILTER_FORMAT, WARMUP_FORMAT

_GRADIENT_ONLY = {"targets", "layers", "sketch_dim", "lora_rank", "lora_alpha", "seed"}
UNREAD: Mapping[Measure, set[str]] = {
    "gradient": {"measure"},
    "embedding": _GRADIENT_ONLY,
    "words": {*_GRADIENT_ONLY, "dtype", "loss", "dpo_beta"},
}
"""Settings that say nothing about what is kept of a row; a warm-up has a fingerprint of its own."""


def gradient_fingerprint(
    *, rows_sha256: str, proxy_revision: str, config: GradientConfig, pool: str | None = None
) -> str:
    """Sha256 (hex) of everything that decides the gradients of a pool.

    The number of workers, the device, the size of the batches and the budget are left out on purpose: none of them
    changes a gradient by more than its last bits.

    Args:
        rows_sha256: Digest over the digests of the usable rows, in order.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: What is measured about each sample.
        pool: ``pool_sha256`` of the pool whose samples a warm-up sees; the rows' own digest when left out.
    """
    warmup = warmup_fingerprint(pool=pool or rows_sha256, proxy_revision=proxy_revision, config=config)
    # What says nothing is left out, as it was before there was any of it: stored gradients stay valid.
    idle = {"batch_tokens"} | ({"tuning"} if warmup is None else set())
    idle |= {"store_dtype"} if config.store_dtype == "float32" else set()
    idle |= {"layers"} if config.layers == "all" else set()
    idle |= _idle(config) | UNREAD[config.measure]
    return digest_of(
        {
            "rows_sha256": rows_sha256,
            "proxy_revision": proxy_revision,
            "gradients": digest_of(config.model_dump(mode="json", exclude=idle)),
            "format": GRADIENT_FORMAT,
            **({} if warmup is None else {"warmup": warmup}),
        }
    )


def warmup_fingerprint(*, pool: str, proxy_revision: str, config: GradientConfig) -> str | None:
    """Sha256 (hex) of everything that decides the weights after the warm-up; None where there is none.

    Args:
        pool: ``pool_sha256`` of the pool.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: How the warm-up is done.
    """
    if not config.warmup_steps:
        return None
    read = {"warmup_steps", "tuning", "lora_rank", "lora_alpha", "max_length", "overflow", "seed", "chat_date"}
    return digest_of(
        {
            "pool": pool,
            "proxy_revision": proxy_revision,
            "settings": config.model_dump(mode="json", include=read),
            "wide": config.dtype == "float64",
            "format": WARMUP_FORMAT,
        }
    )


def periodic_fingerprint(*, pool: str, proxy_revision: str, config: RunConfig) -> str:
    """Sha256 (hex) of everything that decides the course of a periodic run: its gradients exist nowhere else.

    Args:
        pool: ``pool_sha256`` of the pool.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: Settings of the run.
    """
    return digest_of(
        {
            "pool": pool,
            "proxy_revision": proxy_revision,
            "settings": config.model_dump(
                mode="json",
                include={"gradients", "schedule", "selection"},
                exclude={"gradients": {"batch_tokens", "measure", *_idle(config.gradients)}},
            ),
            "format": [GRADIENT_FORMAT, WARMUP_FORMAT, PERIODIC_FORMAT],
        }
    )


def prefiltered_fingerprint(fingerprint: str, prefilter: str | None) -> str:
    """Name of the gradients of those rows alone that a prefilter keeps; the name itself where there is none.

    Args:
        fingerprint: Of the gradients of every row, of a pool or of a shard.
        prefilter: ``prefilter_fingerprint`` of what decides which rows are kept.
    """
    return fingerprint if prefilter is None else digest_of({"gradients": fingerprint, "prefilter": prefilter})


def prefilter_fingerprint(
    *,
    pool: str,
    targets: str,
    owned: Sequence[int],
    proxy_revision: str,
    config: RunConfig,
    weights: Sequence[tuple[str, float]],
) -> str | None:
    """Sha256 (hex) of everything that decides which rows of a pool get gradients; None where all do.

    Args:
        pool: ``pool_sha256`` of the pool.
        targets: Digest of the rows of the targets and protected sets.
        owned: Rows of the source in the base selection.
        proxy_revision: Hub commit or content hash of the proxy model's folder; ``bm25`` asks no proxy.
        config: Settings of the run.
        weights: Name and weight of each target, in order.
    """
    conditions, prefilter = config.conditions, config.conditions.prefilter
    if prefilter is None:
        return None
    quotas = config.selection.quotas
    return digest_of(
        {
            "pool": pool,
            "targets": targets,
            "weights": [list(pair) for pair in weights],
            "protect": [one.name for one in conditions.protect],
            "rows": [sorted(set(rows)) for rows in (conditions.must_include, conditions.exclude, owned)],
            "floors": None if quotas is None else [quotas.column, dict(quotas.floors)],
            "prefilter": prefilter.model_dump(mode="json"),
            "embeddings": gradient_fingerprint(
                rows_sha256=pool, proxy_revision=proxy_revision, config=embedding_settings(config.gradients)
            )
            if prefilter.method == "embedding"
            else None,
            "format": PREFILTER_FORMAT,
        }
    )


def embedding_settings(config: GradientConfig) -> GradientConfig:
    """How a prefilter takes embeddings: by the proxy model as it is, before any warm-up.

    Args:
        config: How the gradients are taken.
    """
    return config.model_copy(update={"measure": "embedding", "warmup_steps": 0})


def _idle(config: GradientConfig) -> set[str]:
    """Settings that say nothing under the objective."""
    return {"sft": {"objective", "dpo_beta"}, "sft_chosen": {"dpo_beta"}, "dpo": {"loss"}}[config.objective]


def conversations_sha256(rows_sha256: str, shards: Sequence[Mapping[str, Any]]) -> str:
    """Sha256 (hex) of what is measured of a pool: its conversations in order, not the records they were read from.

    The same records read with other columns are other conversations.

    Args:
        rows_sha256: Digest over the digests of the usable rows, in order.
        shards: The intake's ``ShardInfo`` of each ``rows-*.parquet``, in order. Those of a data set that was read
            before conversations had a digest have no ``messages_sha256``: then it is the digest of the rows.
    """
    found = [shard.get("messages_sha256") for shard in shards]
    return digest_of(found) if found and all(found) else rows_sha256


def pool_sha256(rows_sha256: str, shards: Sequence[Mapping[str, Any]]) -> str:
    """Sha256 (hex) of all that a warm-up or a periodic run can see of a pool: its rows and their conversations.

    Args:
        rows_sha256: Digest over the digests of the usable rows, in order.
        shards: As for ``conversations_sha256``.
    """
    return digest_of([rows_sha256, conversations_sha256(rows_sha256, shards)])


def shard_fingerprints(
    shards: Sequence[Mapping[str, Any]],
    *,
    proxy_revision: str,
    config: GradientConfig,
    pool: str | None = None,
    prefilter: str | None = None,
) -> list[str]:
    """Sha256 (hex) of everything that decides the gradients of each shard of a pool, whichever pool it is in.

    A data set that begins with the rows of another has its full shards, with their fingerprints: only what was added
    is left to be measured.

    Args:
        shards: As for ``conversations_sha256``.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: What is measured about each sample.
        pool: ``pool_sha256`` of the pool that a warm-up sees; needed where there is one.
        prefilter: ``prefilter_fingerprint`` where only some rows are measured.
    """
    prints: list[str] = []
    first = 0
    for shard in shards:
        content = digest_of({"rows": shard.get("messages_sha256") or shard["sha256"], "first": first})
        whole = gradient_fingerprint(rows_sha256=content, proxy_revision=proxy_revision, config=config, pool=pool)
        prints.append(prefiltered_fingerprint(whole, prefilter))
        first += shard["rows"]
    return prints
