"""Files under names at an address that fsspec knows (``s3://bucket/prefix``): put, fetched, listed, removed.

Whoever reads a file checks its digest, so a file that reached the other side in part is found and made again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from spice_select.errors import ConfigError, StoreUnreachableError


def is_address(place: str | Path) -> bool:
    """Whether it is an address, and no path of this machine.

    Args:
        place: Either.
    """
    return isinstance(place, str) and "://" in place


class ObjectStore:
    """The files below one address.

    Args:
        address: For fsspec.
        pointer: JSON Pointer to the setting that holds it, for errors.
        options: For the file system; what is left out comes from where it looks by itself, for S3 the environment and
            the files of the AWS command.
        makes_folders: Whether missing folders are made, and with them a missing bucket.

    Raises:
        ConfigError: An address that fsspec does not know, or whose package is not installed.
        StoreUnreachableError: The file system cannot be set up.
    """

    def __init__(
        self, address: str, *, pointer: str, options: Mapping[str, Any] | None = None, makes_folders: bool = True
    ) -> None:
        import fsspec

        self._pointer, self._makes_folders = pointer, makes_folders
        given = {"use_listings_cache": False, **(options or {})}
        try:
            self._system, root = fsspec.core.url_to_fs(address, **given)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"{address} is no address that can be used: {error}", pointer=pointer) from error
        except Exception as error:
            raise self._unreachable(address, error) from error
        self._root = root.rstrip("/")

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file from there; False when it is not there.

        Args:
            name: Its name, with ``/`` between folders.
            path: Where to; may be left in part when this fails.

        Raises:
            StoreUnreachableError: The other side does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - made by _unreachable()
        there = f"{self._root}/{name}"
        try:
            self._system.get_file(there, str(path))
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._unreachable(there, error) from error
        return True

    def put(self, path: Path, name: str) -> None:
        """Copy a file to there.

        Args:
            path: The file.
            name: Its name there.

        Raises:
            StoreUnreachableError: The other side does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - made by _unreachable()
        there = f"{self._root}/{name}"
        try:
            if self._makes_folders:
                self._system.makedirs(there.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), there)
        except Exception as error:
            raise self._unreachable(there, error) from error

    def is_there(self) -> bool:
        """Whether the address itself is: a bucket, or a folder, in which anything may be missing.

        Raises:
            StoreUnreachableError: The other side does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - made by _unreachable()
        top = self._root.partition("/")[0] or self._root
        try:
            return bool(self._system.exists(top) or self._system.exists(self._root))
        except Exception as error:
            raise self._unreachable(top, error) from error

    def ages(self) -> dict[str, float]:
        """Seconds since each file was written, by its name.

        Raises:
            StoreUnreachableError: The other side does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - made by _unreachable()
        try:
            found = self._system.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._unreachable(self._root, error) from error
        now = time.time()
        return {path[len(self._root) + 1 :]: now - _written(about) for path, about in found.items()}

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; one that is not there is no error.

        Args:
            names: Their names.

        Raises:
            StoreUnreachableError: The other side does not answer, or does not let us in.
        """  # ruff: ignore[docstring-extraneous-exception] - made by _unreachable()
        for name in names:
            there = f"{self._root}/{name}"
            try:
                self._system.rm_file(there)
            except FileNotFoundError:
                continue
            except Exception as error:
                raise self._unreachable(there, error) from error

    def _unreachable(self, place: str, error: Exception) -> StoreUnreachableError:
        # Every file system of fsspec has errors of its own, of which nothing but their name is sure not to quote a key.
        said = f"{place} cannot be read or written ({type(error).__name__})"
        return StoreUnreachableError(said, pointer=self._pointer)


def _written(about: Mapping[str, Any]) -> float:
    """When a file was written, seconds since 1970; file systems have different words for it."""
    for word in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = about.get(word)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()  # nothing is known: too young to be removed
