"""A worker process that waits for messages, and looks for work by itself when none came for long."""

from __future__ import annotations

import fcntl
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from app.logs import get_logger
from workers.run_unit import UnitRunner


class Busy:
    """Whether any process of a worker runs a unit, told by a lock that the system takes back when a process dies.

    Made before the children are forked. A counter in shared memory would stay up for ever, or stay locked, when the
    kernel kills a child in the wrong moment.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # ruff: ignore[open-file-with-context-handler]  (lives as long as the process)

    def close(self) -> None:
        """Forget it; a worker keeps it to its end."""
        self._file.close()

    @contextmanager
    def working(self) -> Generator[None]:
        """Around a unit; one at a time in each process."""
        fcntl.lockf(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def anybody(self) -> bool:
        """Whether another process is inside ``working``."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        return False


class CeleryChild:
    """Runs units one at a time: one for each message, and after a silence those that no message came for.

    A broker that is gone, full or read-only, a connection that died without a word, a dispatcher that does not run:
    whatever keeps the messages away, work that is in the database goes on.

    Args:
        make_runner: Makes the runner on first use.
        busy: Told while a unit runs.
        shutdown: Set when the process is asked to end.
        silence_seconds: Time without a message after which an idle process looks for itself.
        pause_seconds: Time until it looks again after it has done a unit.
    """

    def __init__(
        self,
        make_runner: Callable[[], UnitRunner],
        busy: Busy,
        shutdown: threading.Event,
        *,
        silence_seconds: float,
        pause_seconds: float,
    ) -> None:
        self._make_runner, self._busy, self.shutdown = make_runner, busy, shutdown
        self.silence_seconds, self.pause_seconds = silence_seconds, pause_seconds
        self._runner: UnitRunner | None = None
        self._one_at_a_time = threading.Lock()
        self._notified = threading.Event()

    def _runner_here(self) -> UnitRunner:
        """One runner per process keeps its model loaded; the lock must be held."""
        if self._runner is None:
            self._runner = self._make_runner()
        return self._runner

    def answer(self) -> None:
        """Do the unit that is next by the rule, whichever a message was sent for; safe to call twice, late, or never.

        Messages are first in, first out: a worker that took the unit that a message names would know neither priority
        nor fairness behind a backlog.
        """
        self._notified.set()
        if self.shutdown.is_set():
            return
        with self._one_at_a_time, self._busy.working():
            runner = self._runner_here()
            claim = runner.claim_next()
            if claim is not None:
                runner.run_claim(claim)
        # Time spent on a unit is no silence.
        self._notified.set()

    def watch(self) -> None:
        """Look for work whenever no message came for ``silence_seconds``, until the process is asked to end."""
        log = get_logger()
        wait = self.silence_seconds
        while not self.shutdown.is_set():
            if self._notified.wait(wait):
                self._notified.clear()
                wait = self.silence_seconds
                continue
            try:
                worked = self._look()
            except Exception as error:  # a database that is away for a while must not end the watch
                log.error("unasked_look_failed", error=str(error))
                worked = False
            if worked:
                log.warning("worked_without_message", silent_seconds=wait)
            wait = self.pause_seconds if worked else self.silence_seconds

    def _look(self) -> bool:
        """Take one unit that waits, unless one is running here; whether there was one."""
        if not self._one_at_a_time.acquire(blocking=False):
            return False
        try:
            if self.shutdown.is_set():
                return False
            runner = self._runner_here()
            claim = runner.claim_next()
            if claim is None:
                return False
            with self._busy.working():
                runner.run_claim(claim)
            return True
        finally:
            self._one_at_a_time.release()

    def start(self) -> None:
        """Load what gradients need, and begin to watch, from threads of their own."""
        with self._one_at_a_time:
            self._runner_here().warm_up()
        threading.Thread(target=self.watch, name="celery-child", daemon=True).start()


def wait_until_idle(busy: Busy, seconds: float) -> None:
    """Wait until no child runs a unit, or the time is up."""
    deadline = time.monotonic() + seconds
    while busy.anybody() and time.monotonic() < deadline:
        time.sleep(0.05)
