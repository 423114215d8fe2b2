"""Files kept under names: in a folder of this machine, or under an address that fsspec knows (``s3://bucket/prefix``).

Whoever reads a file checks its digest, so a file that reached the other side in part is found and made again.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from spice_select.storage.object_store import ObjectStore, is_address


class Cache:
    """Where a run keeps what another run can use.

    Args:
        place: A folder, or an address for fsspec; options (keys, endpoint) come from where its file system looks for
            them by itself, for S3 the environment and the files of the AWS command.
        scratch: A folder for the copies of files at an address; they are there as long as it is.

    Attributes:
        folder: The folder of this machine where the files, or their copies, are.

    Raises:
        ConfigError: An address that fsspec does not know, or whose package is not installed.
        StoreUnreachableError: The file system cannot be set up.
    """

    def __init__(self, place: str | Path, scratch: Path) -> None:
        self._far = ObjectStore(str(place), pointer="#/cache") if is_address(place) else None
        self.folder = Path(place) if self._far is None else scratch / "cache"

    @property
    def is_local(self) -> bool:
        """Whether files are kept on this machine alone."""
        return self._far is None

    def local(self, name: str) -> Path:
        """Where the file is, or is to be written; brought here first when it is kept elsewhere.

        Args:
            name: Its name, with ``/`` between folders.

        Raises:
            StoreUnreachableError: Where it is kept does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by fetch()
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._far is None or path.exists():
            return path
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            if self._far.fetch(name, partial):
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def keep(self, name: str) -> None:
        """Carry a file that was written to ``local(name)`` to where it is kept.

        Args:
            name: Its name.

        Raises:
            StoreUnreachableError: Where it is to be kept does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by put()
        if self._far is not None:
            self._far.put(self.folder / name, name)
