"""Finished units of work on disk, named by what they were made from; several processes may share the folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from spice_select.atomic_files import write_whole
from spice_select.config import digest_of

Arrays = Mapping[str, np.ndarray]


class BusyError(Exception):
    """Another process is at work on this unit."""


class Cache:
    """A folder of units, each made once.

    A unit appears under its name when it is complete, so a process may be killed at any time; its lock is released by
    the operating system.

    Args:
        folder: Where units are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arrays(self, kind: str, made_from: Any, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a unit, made if they are not there.

        Args:
            kind: Name of its subfolder.
            made_from: JSON value that decides the unit.
            make: Makes it.

        Raises:
            BusyError: Another process makes it.
        """
        path = self._path(kind, made_from, "npz")
        self._make(path, lambda: _npz(make()))
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}

    def facts(self, kind: str, made_from: Any, make: Callable[[], Any]) -> Any:
        """The JSON value of a unit, made if it is not there.

        Args:
            kind: Name of its subfolder.
            made_from: JSON value that decides the unit.
            make: Makes it.

        Raises:
            BusyError: Another process makes it.
        """
        path = self._path(kind, made_from, "json")
        self._make(path, lambda: json.dumps(make()).encode())
        return json.loads(path.read_bytes())

    def has_facts(self, kind: str, made_from: Any) -> bool:
        """Whether a unit of JSON is finished.

        Args:
            kind: Name of its subfolder.
            made_from: JSON value that decides the unit.
        """
        return self._path(kind, made_from, "json").exists()

    def has_arrays(self, kind: str, made_from: Any) -> bool:
        """Whether a unit of arrays is finished.

        Args:
            kind: Name of its subfolder.
            made_from: JSON value that decides the unit.
        """
        return self._path(kind, made_from, "npz").exists()

    def _path(self, kind: str, made_from: Any, suffix: str) -> Path:
        return self._folder / kind / f"{digest_of(made_from)[:32]}.{suffix}"

    def _make(self, path: Path, make: Callable[[], bytes]) -> None:
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path.with_suffix(".lock"), timeout=0):
                if not path.exists():
                    write_whole(path, make())
        except Timeout:
            raise BusyError(path.name) from None


def _npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
