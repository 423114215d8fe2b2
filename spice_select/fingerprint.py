"""The name of a set of gradients: two jobs with one fingerprint can share the computed gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spice_select.config import GradientConfig, digest_of
from spice_select.version import GRADIENT_FORMAT


def gradient_fingerprint(*, rows_sha256: str, proxy_revision: str, config: GradientConfig) -> str:
    """Sha256 (hex) of everything that decides the gradients of a pool.

    The number of workers, the device and the budget are left out on purpose: none of them changes a gradient.

    Args:
        rows_sha256: Digest over the digests of the usable rows, in order.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: What is measured about each sample.
    """
    return digest_of(
        {
            "rows_sha256": rows_sha256,
            "proxy_revision": proxy_revision,
            "gradients": config.digest(),
            "format": GRADIENT_FORMAT,
        }
    )


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


def shard_fingerprints(
    shards: Sequence[Mapping[str, Any]], *, proxy_revision: str, config: GradientConfig
) -> list[str]:
    """Sha256 (hex) of everything that decides the gradients of each shard of a pool, whichever pool it is in.

    A data set that begins with the rows of another has its full shards, with their fingerprints: only what was added
    is left to be measured.

    Args:
        shards: As for ``conversations_sha256``.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: What is measured about each sample.
    """
    prints: list[str] = []
    first = 0
    for shard in shards:
        content = digest_of({"rows": shard.get("messages_sha256") or shard["sha256"], "first": first})
        prints.append(gradient_fingerprint(rows_sha256=content, proxy_revision=proxy_revision, config=config))
        first += shard["rows"]
    return prints
