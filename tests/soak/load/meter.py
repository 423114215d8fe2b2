"""Memory, open files and database connections of the service's processes, over time."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
import psutil
from sqlalchemy import text

from app.persistence.session import Database
from tests.fixtures.processes import LaunchedProcess

MEBIBYTE = 2**20


@dataclass
class Series:
    """What was seen of one process.

    Attributes:
        seconds: Moments, of ``time.monotonic``.
        memory: Resident MiB with its children, at each.
        files: Open files with its children, at each.
        families: Process ids of it and its children, at each: a worker replaces its child now and then, and
            the memory begins anew.
    """

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    families: list[tuple[int, ...]] = field(default_factory=list)

    def since(self, moment: float) -> Series:
        """The later part."""
        first = next((i for i, seen in enumerate(self.seconds) if seen >= moment), len(self.seconds))
        return self._part(first, len(self.seconds))

    def _part(self, first: int, end: int) -> Series:
        return Series(self.seconds[first:end], self.memory[first:end], self.files[first:end], self.families[first:end])

    @property
    def life(self) -> Series:
        """The longest stretch, in looks, in which no process was replaced."""
        ends = [at for at in range(1, len(self.families)) if self.families[at] != self.families[at - 1]]
        bounds = [0, *ends, len(self.families)]
        first, end = max(pairwise(bounds), key=lambda bound: bound[1] - bound[0])
        return self._part(first, end)

    @property
    def slope(self) -> float:
        """MiB a minute, by least squares, within the second half of the longest life.

        The first half holds a worker's first models and buffers. 0 with fewer than three looks.
        """
        life = self.life
        late = life.since(life.seconds[len(life.seconds) // 2]) if life.seconds else life
        if len(late.seconds) < 3:
            return 0.0
        minutes = (np.array(late.seconds) - late.seconds[0]) / 60
        return float(np.polyfit(minutes, np.array(late.memory), 1)[0])


class Meter:
    """Looks at the processes every so often, in a thread of its own.

    Args:
        processes: Which ones; one that is restarted goes on in the same series.
        database: Asked for the number of its connections, this one left out.
        period: Seconds between two looks.
    """

    def __init__(self, processes: list[LaunchedProcess], database: Database, period: float) -> None:
        self.processes, self.database, self.period = processes, database, period
        self.series: dict[str, Series] = defaultdict(Series)
        self.connections: list[tuple[float, int]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._end.wait(self.period):
            for process in self.processes:
                self._look_at(process)
            with self.database.read() as session:
                count = session.execute(
                    text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
                ).scalar_one()
            self.connections.append((time.monotonic(), int(count) - 1))

    def _look_at(self, process: LaunchedProcess) -> None:
        running = process.process
        if running is None:
            return
        try:
            leader = psutil.Process(running.pid)
            family = [leader, *leader.children(recursive=True)]
            held = [member.memory_info().rss for member in family]
            memory = sum(held) / MEBIBYTE
            files = sum(member.num_fds() for member in family)
        except psutil.Error:  # it, or a child, has just ended
            return
        if not all(held):  # a child that has ended and is not yet replaced
            return
        seen = self.series[process.name]
        seen.seconds.append(time.monotonic())
        seen.memory.append(memory)
        seen.files.append(files)
        seen.families.append(tuple(sorted(member.pid for member in family)))
