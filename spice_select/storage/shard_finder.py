"""Gradient shards by what they were made from, wherever they lie: a cache, a service's artifacts, loose files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from spice_select.errors import CorruptShardError
from spice_select.storage.cache import Cache
from spice_select.storage.object_store import is_address

LONGEST_HEADER = 16 * 2**20
"""Bytes of the JSON at the beginning of a safetensors file that are looked at; those of a shard are a few thousand."""


class ShardFinder:
    """Finds shards by their fingerprint; what is found must still be read with it, which checks every byte.

    Args:
        place: A folder, looked through to its bottom, one shard, or an address that fsspec knows.
        scratch: Folder for what is fetched from an address.
    """

    def __init__(self, place: str | Path, scratch: Path) -> None:
        self._place = place
        self._cache = Cache(place, scratch) if is_address(place) else None
        self._found: dict[str, Path] | None = None

    def find(self, fingerprint: str) -> Path:
        """The file of a shard.

        Args:
            fingerprint: What it was made from.

        Raises:
            CorruptShardError: There is none.
        """
        name = f"{fingerprint}.safetensors"
        path = Path(self._place, "gradients", name) if self._cache is None else self._cache.local(f"gradients/{name}")
        if not path.is_file():
            if self._found is None:
                self._found = {} if self._cache is not None else _looked_through(Path(self._place))
            path = self._found.get(fingerprint, path)
        if not path.is_file():
            raise CorruptShardError(f"{self._place} does not hold the gradients {fingerprint}")
        return path


def _looked_through(place: Path) -> dict[str, Path]:
    """Every shard below a folder by its fingerprint; links are not followed."""
    files = [place] if place.is_file() else [Path(top, name) for top, _, names in os.walk(place) for name in names]
    found: dict[str, Path] = {}
    for path in sorted(files):
        said = _fingerprint(path)
        if said is not None:
            found.setdefault(said, path)
    return found


def _fingerprint(path: Path) -> str | None:
    """What a shard says that it was made from; None for a file that is none."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(LONGEST_HEADER, path.stat().st_size - 8):
                return None
            said = json.loads(json.loads(file.read(length))["__metadata__"]["shard"])["header"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return said if isinstance(said, str) else None
