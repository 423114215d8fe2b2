"""Files kept under names: in a folder of this machine, or under an address that fsspec knows (``s3://bucket/prefix``).

Whoever reads a file checks its digest, so a file that reached the other side in part is found and made again.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from spice_select.errors import ConfigError, StoreUnreachableError


def is_address(place: str | Path) -> bool:
    """Whether it is an address, and no path of this machine.

    Args:
        place: Either.
    """
    return isinstance(place, str) and "://" in place


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
        self._system: Any = None
        self._root = ""
        self.folder = scratch / "cache" if is_address(place) else Path(place)
        if is_address(place):
            import fsspec

            try:
                self._system, root = fsspec.core.url_to_fs(str(place), use_listings_cache=False)
            except (ValueError, ImportError) as error:
                raise ConfigError(f"{place} is no address that can be used: {error}", pointer="#/cache") from error
            except Exception as error:
                raise StoreUnreachableError(_said(place, error), pointer="#/cache") from error
            self._root = root.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether files are kept on this machine alone."""
        return self._system is None

    def local(self, name: str) -> Path:
        """Where the file is, or is to be written; brought here first when it is kept elsewhere.

        Args:
            name: Its name, with ``/`` between folders.

        Raises:
            StoreUnreachableError: Where it is kept does not answer, or does not let us in.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._system is None or path.exists():
            return path
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            self._system.get_file(self._there(name), str(partial))
            partial.replace(path)
        except FileNotFoundError:
            partial.unlink(missing_ok=True)
        except Exception as error:
            partial.unlink(missing_ok=True)
            raise StoreUnreachableError(_said(self._there(name), error), pointer="#/cache") from error
        return path

    def keep(self, name: str) -> None:
        """Carry a file that was written to ``local(name)`` to where it is kept.

        Args:
            name: Its name.

        Raises:
            StoreUnreachableError: Where it is to be kept does not answer, or does not let us in.
        """
        if self._system is None:
            return
        there = self._there(name)
        try:
            self._system.makedirs(there.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(self.folder / name), there)
        except Exception as error:
            raise StoreUnreachableError(_said(there, error), pointer="#/cache") from error

    def _there(self, name: str) -> str:
        return f"{self._root}/{name}"


def _said(place: str | Path, error: Exception) -> str:
    # Every file system of fsspec has errors of its own, of which nothing but their name is sure not to quote a key.
    return f"{place} cannot be read or written ({type(error).__name__})"
