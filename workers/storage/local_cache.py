"""Copies of remote gradients on this machine, bounded in bytes; the least recently used go first."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from app.storage import file_sha256
from spice_select.atomic_files import move_whole

LEFT_OVER_SECONDS = 86400.0
"""A copy in the making that is older than this belongs to a process that died."""


class LocalCache:
    """Files under the sha256 of their bytes, shared by the processes of one machine.

    What a process has pinned is not removed until it lets go of it or dies: it may be mapped into its memory, and be
    opened once more. Pins are files whose lock the system takes back with the process.

    Args:
        folder: The folder; made when missing. Not shared between machines.
        most_bytes: Above this, the copies that were not used for longest go.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._copies, self._pins, self._scratch = folder / "objects", folder / "pins", folder / "tmp"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in (self._copies, self._pins, self._scratch):
            part.mkdir(parents=True, exist_ok=True)
        self._lock, self._most_bytes = folder / "lock", most_bytes
        self._held: list[tuple[int, Path]] = []

    def path(self, sha256: str) -> Path:
        """Where a copy is, or is to be."""
        return self._copies / sha256[:2] / sha256

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """A path on the same file system for a file in the making; nothing is left of it."""
        path = self._scratch / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def add(self, path: Path, sha256: str) -> Path:
        """Make a file of ``scratch`` the copy; its bytes are what its name says, the caller has looked."""
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        move_whole(path, target)
        return target

    def fetch(self, sha256: str, download: Callable[[Path], bool]) -> Path | None:
        """The copy, fetched unless it is there; None when what came is nothing, or other bytes.

        Args:
            sha256: Digest (hex) of its bytes.
            download: Writes the file to a path; False when there is none.
        """
        path = self.path(sha256)
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        with self.scratch() as partial:
            if not download(partial) or file_sha256(partial) != sha256:
                return None
            return self.add(partial, sha256)

    def drop(self, sha256: str) -> None:
        """Remove a copy whose bytes are no longer what its name says."""
        self.path(sha256).unlink(missing_ok=True)

    def pin(self, digests: Iterable[str]) -> None:
        """Keep these copies, which need not be there yet, until ``release``."""
        path = self._pins / secrets.token_hex(16)
        with self._alone():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with os.fdopen(os.dup(descriptor), "w", encoding="ascii") as file:
                file.write("\n".join(digests))
        self._held.append((descriptor, path))

    def release(self) -> None:
        """End every pin of this process."""
        while self._held:
            descriptor, path = self._held.pop()
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def make_room(self, coming_bytes: int = 0) -> int:
        """Remove what was not used for longest until all is below the bound again.

        Args:
            coming_bytes: What is about to come.

        Returns:
            Bytes above the bound that are left: they are in use.
        """
        with self._alone():
            kept = self._pinned()
            found = []
            for path in self._copies.glob("??/*"):
                with suppress(FileNotFoundError):
                    about = path.stat()
                    found.append((about.st_mtime, about.st_size, path))
            over = coming_bytes + sum(size for _, size, _ in found) - self._most_bytes
            for _, size, path in sorted(found):
                if over <= 0:
                    break
                if path.name not in kept:
                    path.unlink(missing_ok=True)
                    over -= size
            for path in self._scratch.iterdir():
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                        path.unlink()
        return max(0, over)

    def _pinned(self) -> set[str]:
        """What living processes have pinned; pins of dead ones are removed."""
        kept: set[str] = set()
        for path in self._pins.iterdir():
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                kept.update(path.read_text(encoding="ascii").split())
            finally:
                os.close(descriptor)
        return kept

    @contextmanager
    def _alone(self) -> Generator[None]:
        """No other process pins or removes meanwhile."""
        with self._lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
