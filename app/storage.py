"""Artifacts on disk, named by the sha256 of their bytes and kept apart by project.

A name that is its own digest is what makes a late writer harmless: whoever writes, the bytes under a name are the same.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import ServiceError
from spice_select.atomic_files import move_whole

BLOCK_BYTES = 2**20
VERIFIED_SECONDS = 600.0
"""How long a file that was read whole and found intact is served without reading it again, while nothing changes it."""
MOST_VERIFIED = 4096
MEASURED_SECONDS = 30.0
"""How long the measured size of a project's files is used, with what this process has added to them."""


class ArtifactStore:
    """Content-addressed files below one folder that API and workers share.

    Args:
        root: The folder; made when missing.

    Attributes:
        all_cuts: Folder of the files that were cut down to their first rows, of all projects.
        corrupt: How often this process found an artifact whose bytes are not those that its name says.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.corrupt = 0
        self.all_cuts = root / "prefixes"
        self._scratch = root / "tmp"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._verified: dict[Path, tuple[tuple[int, int, int, int], float]] = {}
        self._measured: dict[str, tuple[float, int]] = {}

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """A folder of one's own on the same file system (so that a rename is atomic), removed at the end."""
        # Made again when somebody has cleared the folder under the running service.
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, project_id: str, path: Path, sha256: str | None = None) -> str:
        """Move a finished file into the store.

        An existing file of that name is replaced: the bytes are the same, or the old ones had rotted.

        Args:
            project_id: Owner.
            path: File inside ``scratch()``; gone afterwards.
            sha256: Digest, when the caller has just computed it.

        Returns:
            The sha256 (hex) of the bytes, which is the artifact's name.
        """
        digest = sha256 or file_sha256(path)
        target = self._path(project_id, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        known = self._measured.get(project_id)
        if known is not None and not target.exists():
            self._measured[project_id] = known[0], known[1] + path.stat().st_size
        move_whole(path, target)
        return digest

    def bytes_of(self, project_id: str) -> int:
        """Bytes of a project's artifacts and of what was cut from them, looked at again every half minute."""
        known = self._measured.get(project_id)
        if known is None or time.monotonic() - known[0] > MEASURED_SECONDS:
            folders = (self.root / "objects" / project_id, self.cuts(project_id))
            known = time.monotonic(), sum(map(_folder_bytes, folders))
            self._measured[project_id] = known
        return known[1]

    def has(self, project_id: str, sha256: str) -> bool:
        """Whether an artifact of this name is there."""
        return self._path(project_id, sha256).is_file()

    def parts(self, upload_id: str) -> Path:
        """Folder for the parts of a file that arrives in pieces; not made here."""
        return self.root / "uploads" / upload_id

    def part_folders(self) -> list[str]:
        """Ids of the uploads that have a folder."""
        folder = self.root / "uploads"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def checkpoints(self, job_id: str) -> Path:
        """Folder for what a choice by windows can be continued from; not made here."""
        return self.root / "checkpoints" / job_id

    def checkpoint_folders(self) -> list[str]:
        """Ids of the jobs that have such a folder."""
        folder = self.root / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def path(self, project_id: str, sha256: str) -> Path:
        """Where an artifact lies.

        Raises:
            ServiceError: ``artifact-lost`` when it is not there.
        """
        path = self._path(project_id, sha256)
        if not path.is_file():
            raise ServiceError("artifact-lost", f"the stored file {sha256} is missing")
        return path

    def intact(self, project_id: str, sha256: str) -> Path:
        """Where an artifact lies whose bytes are what its name says.

        Raises:
            ServiceError: ``artifact-corrupt`` when they are not, ``artifact-lost`` when it is not there.
        """
        path = self.path(project_id, sha256)
        if not self.verified(path, sha256):
            raise ServiceError("artifact-corrupt", f"the stored file {sha256} has changed")
        return path

    def verified(self, path: Path, sha256: str) -> bool:
        """Whether a file holds the bytes of this digest.

        The whole file is read, unless it was lately and neither its size nor its times nor its place on the disk have
        changed since: many ranges of one file are one reading.

        Args:
            path: The file.
            sha256: Digest (hex) that it should have.
        """
        state = path.stat()
        mark = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        known = self._verified.get(path)
        if known is not None and known[0] == mark and time.monotonic() - known[1] < VERIFIED_SECONDS:
            return True
        if file_sha256(path) != sha256:
            self._verified.pop(path, None)
            self.corrupt += 1
            return False
        if len(self._verified) >= MOST_VERIFIED:
            self._verified.clear()
        self._verified[path] = (mark, time.monotonic())
        return True

    def age(self, project_id: str, sha256: str) -> float:
        """Seconds since an artifact was written last; infinite when it is not there."""
        return age_of(self._path(project_id, sha256))

    def take_out(self, project_id: str, sha256: str, folder: Path) -> Path | None:
        """Move an artifact out of the store into a scratch folder; None when it is not there."""
        self._measured.pop(project_id, None)
        try:
            return self._path(project_id, sha256).rename(folder / sha256)
        except FileNotFoundError:
            return None

    def cuts(self, project_id: str) -> Path:
        """Folder of the files that were cut down to their first rows; not made here."""
        return self.all_cuts / project_id

    def remove_cuts(self, project_id: str, sha256: str) -> None:
        """Remove whatever was cut from an artifact: copies must not outlive what they are copies of."""
        for folder in self.cuts(project_id).glob(f"{sha256}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def put_back(self, project_id: str, taken: Path) -> None:
        """Undo ``take_out``, unless somebody has written the artifact anew meanwhile."""
        with suppress(FileExistsError):
            os.link(taken, self._path(project_id, taken.name))

    def _path(self, project_id: str, sha256: str) -> Path:
        return self.root / "objects" / project_id / sha256[:2] / sha256


def _folder_bytes(folder: Path) -> int:
    """Bytes of the files below a folder; what goes away meanwhile counts nothing."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                inside = entry.is_dir(follow_symlinks=False)
                total += _folder_bytes(Path(entry)) if inside else entry.stat(follow_symlinks=False).st_size
    return total


def file_sha256(path: Path) -> str:
    """Sha256 (hex) of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def age_of(path: Path) -> float:
    """Seconds since a file was written last; infinite when it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
