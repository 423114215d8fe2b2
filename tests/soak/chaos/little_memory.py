"""A control group of the kernel whose processes may take only so much more memory: only root may make one."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest

FIRST, SECOND = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
"""Where groups of the first and the second version of the interface are made."""


class LittleMemory:
    """Kills, through the kernel, whatever is put in and asks for more than a little.

    What a process holds when it is moved in stays charged to where it came from.

    Args:
        mebibytes: What the group may take.
    """

    def __init__(self, mebibytes: int) -> None:
        first = (FIRST / "memory.limit_in_bytes").exists()
        self.folder = (FIRST if first else SECOND) / f"spice-{uuid4().hex[:12]}"
        self._limit = self.folder / ("memory.limit_in_bytes" if first else "memory.max")
        self._events = self.folder / ("memory.oom_control" if first else "memory.events")
        self.mebibytes = mebibytes

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        try:
            self._limit.write_text(str(self.mebibytes * 2**20))
        except OSError as error:
            self.folder.rmdir()
            pytest.skip(f"no control group of memory can be made here: {error}")
        return self

    def put_in(self, pid: int) -> None:
        """Move a process in, all its threads with it."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    @property
    def killed(self) -> int:
        """How many processes of the group the kernel has killed for want of memory."""
        words = self._events.read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def __exit__(self, *_: object) -> None:
        home = self.folder.parent / "cgroup.procs"
        for pid in (self.folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                home.write_text(pid)
        for _try in range(50):  # the dead leave a moment later
            try:
                self.folder.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return
        self.folder.rmdir()
