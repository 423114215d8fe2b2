"""What earlier units left in the store, put together for the unit that needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import ServiceError
from app.services.units.inputs import Preparation, UnitArtifact
from app.storage import ArtifactStore, file_sha256
from spice_select.errors import CorruptShardError, MismatchedShardError
from spice_select.pipeline.pool import Pool
from workers.storage.errors import ArtifactsLostError
from workers.storage.gradient_store import GradientStore

if TYPE_CHECKING:
    from spice_select.pipeline.prefilter import Prefiltered
    from spice_select.pipeline.warmup import Warmup

Load = Callable[[Sequence[tuple[Path, str | None]], Sequence[str]], Pool]
"""A way to put a pool together from its shards and what they must have been made from."""


def stored_pool(
    store: GradientStore,
    project_id: str,
    shards: Sequence[UnitArtifact],
    fingerprint: str,
    *,
    prepared: Mapping[str, Preparation | None],
    load: Load,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Pool:
    """A pool put together from gradient shards.

    Args:
        store: Where gradients are kept; what the pool is read from stays until it is let go.
        project_id: Owner.
        shards: Its gradient shards, in order.
        fingerprint: Of their set: what a shard was made from that does not say so itself.
        prepared: The ``warmup`` and the ``prefilter`` that it was taken after, where there are; a shard that was taken
            after others is made again.
        load: Of ``pipeline.pool``; decides whether the gradients come into memory or stay on the disk.
        on_progress: Called as (shards fetched, all of them) while they come from an address.
        should_stop: Asked before each of those.

    Raises:
        ArtifactsLostError: Shards are missing or rotten, or were taken after others; names their units.
        CorruptShardError: A shard is unreadable though its bytes are what they should be.
    """
    # What was lost and made again on another kind of machine may have other bits.
    wanted = {kind: None if made is None else made.sha256 for kind, made in prepared.items()}
    lost = [shard.unit_id for shard in shards if {kind: shard.result.get(kind) for kind in wanted} != wanted]
    for renewed in (False, True):
        here = store.at_hand(project_id, shards, on_progress=on_progress, should_stop=should_stop)
        paths = [(path, shard.sha256) for shard, path in zip(shards, here, strict=True) if path is not None]
        lost += [shard.unit_id for shard, path in zip(shards, here, strict=True) if path is None]
        if lost:
            break
        try:
            return load(paths, [shard.fingerprint or fingerprint for shard in shards])
        except CorruptShardError:
            bad = [shard for shard, (path, _) in zip(shards, paths, strict=True) if file_sha256(path) != shard.sha256]
            if not bad:
                raise
            if renewed or not store.drop_copies(bad):
                lost = [shard.unit_id for shard in bad]
                break
    lost = list(dict.fromkeys(lost))
    raise ArtifactsLostError(lost, f"{len(lost)} of {len(shards)} gradient shards are missing or changed")


def stored_prefilter(store: ArtifactStore, project_id: str, prefilter: Preparation) -> Prefiltered:
    """Which rows of a pool get gradients.

    Args:
        store: Artifacts.
        project_id: Owner.
        prefilter: Names the file that says so.

    Raises:
        ArtifactsLostError: It is missing or rotten; names the unit that made it.
    """
    from spice_select.pipeline.prefilter import read_prefiltered

    try:
        return read_prefiltered(store.path(project_id, prefilter.sha256), prefilter.fingerprint, prefilter.sha256)
    except (ServiceError, CorruptShardError, MismatchedShardError) as error:
        raise ArtifactsLostError([prefilter.unit_id], "the ranking of the prefilter is missing or changed") from error


def stored_warmup(store: ArtifactStore, project_id: str, warmup: Preparation) -> Warmup:
    """The weights that a warm-up left.

    Args:
        store: Artifacts.
        project_id: Owner.
        warmup: Names them.

    Raises:
        ArtifactsLostError: They are missing or rotten; names the unit that made them.
    """
    from spice_select.pipeline.warmup import read_warmup  # a selection does without what it imports

    try:
        return read_warmup(store.path(project_id, warmup.sha256), warmup.fingerprint, warmup.sha256)
    except (ServiceError, CorruptShardError, MismatchedShardError) as error:
        raise ArtifactsLostError([warmup.unit_id], "the weights of the warm-up are missing or changed") from error
