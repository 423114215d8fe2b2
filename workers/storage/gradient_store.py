"""Where gradient shards are kept: in the shared folder, or in object storage with copies on this machine.

In object storage every write has a name of its own, which the committed record holds. Nothing is ever written twice
under one name, so what no record names any more can be removed without looking again (decision 6).
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.errors import ServiceError
from app.logs import get_logger
from app.services.units.inputs import UnitArtifact
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.errors import Stopped, StoreUnreachableError
from spice_select.storage.object_store import ObjectStore
from workers.storage.local_cache import LocalCache

FETCHED_AT_A_TIME = 8
SECONDS = 15
"""Time that a connection may take; an answer may take four times as long."""


class GradientStore:
    """The gradient shards of a deployment, as one worker process sees them.

    Args:
        settings: For the address, its credentials and the bounds of the copies.
        store: The shared folder.
    """

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self._settings, self._folder = settings, store
        self._remote: ObjectStore | None = None
        self.copies: LocalCache | None = None

    @property
    def is_remote(self) -> bool:
        """Whether shards are kept in object storage."""
        return bool(self._settings.gradient_store)

    @property
    def remote(self) -> ObjectStore:
        """The files at the address; set up when it is first needed, in the process that needs it.

        Raises:
            StoreUnreachableError: There is no address, or it cannot be used.
        """
        if self._remote is None:
            if not self.is_remote:
                raise StoreUnreachableError("gradients are kept at an address, and SPICE_GRADIENT_STORE is not set")
            address = self._settings.gradient_store
            # Making a bucket is for its operator: that of a misspelt address would be somebody else's, or public.
            folders = not address.startswith("s3://")
            options = _options(self._settings)
            self._remote = ObjectStore(address, pointer="#/gradients", options=options, makes_folders=folders)
        return self._remote

    def _copies_here(self) -> LocalCache:
        if self.copies is None:
            folder = self._settings.gradient_copies_dir or Path(tempfile.gettempdir()) / "spice-select-gradients"
            self.copies = LocalCache(folder, self._settings.gradient_copies_bytes)
        return self.copies

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """A path for a shard in the making."""
        if self.is_remote:
            with self._copies_here().scratch() as path:
                yield path
        else:
            with self._folder.scratch() as folder:
                yield folder / "shard"

    def add(self, project_id: str, path: Path, sha256: str) -> dict[str, Any]:
        """Keep a shard that was written to ``scratch``.

        Args:
            project_id: Owner.
            path: The file; gone afterwards.
            sha256: Digest (hex) of its bytes.

        Returns:
            What the record has to say about where it is.

        Raises:
            StoreUnreachableError: The address does not answer.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by put()
        if not self.is_remote:
            self._folder.add(project_id, path, sha256)
            return {}
        name = f"{project_id}/{sha256[:2]}/{sha256}-{secrets.token_hex(8)}"
        size = path.stat().st_size
        self.remote.put(path, name)
        copies = self._copies_here()
        copies.make_room(size)
        copies.add(path, sha256)
        return {"object": name, "bytes": size}

    def at_hand(
        self,
        project_id: str,
        shards: Sequence[UnitArtifact],
        *,
        on_progress: Callable[[int, int], object] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> list[Path | None]:
        """Where each shard can be read on this machine until ``release``; None for one that is gone or has other bytes.

        Args:
            project_id: Owner.
            shards: As the records name them.
            on_progress: Called as (shards that are here, all of them).
            should_stop: Asked before each.

        Raises:
            Stopped: ``should_stop`` said so.
            StoreUnreachableError: The address does not answer.
        """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by fetch()
        remote = [shard for shard in shards if "object" in shard.result]
        paths: dict[str, Path | None] = {}
        for shard in shards:
            if "object" not in shard.result:
                paths[shard.unit_id] = self._in_folder(project_id, shard)
        if remote:
            copies = self._copies_here()
            copies.pin(shard.sha256 for shard in remote)
            coming = sum(shard.result.get("bytes", 0) for shard in remote if not copies.path(shard.sha256).exists())
            over = copies.make_room(coming)
            if over:
                get_logger().warning("gradient_copies_above_bound", bytes=over)

            def fetch(shard: UnitArtifact) -> Path | None:
                if should_stop is not None and should_stop():
                    raise Stopped("the shards are no longer wanted")
                name = shard.result["object"]
                return copies.fetch(shard.sha256, lambda path: self.remote.fetch(name, path))

            with ThreadPoolExecutor(FETCHED_AT_A_TIME) as pool:
                try:
                    for done, (shard, path) in enumerate(zip(remote, pool.map(fetch, remote), strict=True), 1):
                        paths[shard.unit_id] = path
                        if on_progress is not None:
                            on_progress(done, len(remote))
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            if None in paths.values() and not self.remote.is_there():
                raise StoreUnreachableError(f"there is no {self._settings.gradient_store}", pointer="#/gradients")
        return [paths[shard.unit_id] for shard in shards]

    def drop_copies(self, shards: Sequence[UnitArtifact]) -> bool:
        """Forget copies that rotted on this machine; False when one of the shards is no copy."""
        if self.copies is None or not all("object" in shard.result for shard in shards):
            return False
        for shard in shards:
            self.copies.drop(shard.sha256)
        return True

    def release(self) -> None:
        """Say that what ``at_hand`` gave is no longer in use."""
        if self.copies is not None:
            self.copies.release()

    def _in_folder(self, project_id: str, shard: UnitArtifact) -> Path | None:
        try:
            return self._folder.path(project_id, shard.sha256)
        except ServiceError:
            return None


def _options(settings: Settings) -> dict[str, Any]:
    """What the file system of the address is told; every wait of S3 is bounded."""
    if not settings.gradient_store.startswith("s3://"):
        return {}
    key, secret = settings.s3_key_id.get_secret_value(), settings.s3_secret.get_secret_value()
    return {
        "key": key or None,
        "secret": secret or None,
        "endpoint_url": settings.s3_endpoint or None,
        "client_kwargs": {"region_name": settings.s3_region} if settings.s3_region else None,
        "config_kwargs": {"connect_timeout": SECONDS, "read_timeout": 4 * SECONDS, "retries": {"max_attempts": 2}},
        "skip_instance_cache": True,
    }
