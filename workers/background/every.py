"""Calls something again and again, on a thread of its own, beside whatever else a process does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from app.logs import get_logger

MAX_PAUSE_SECONDS = 10.0
"""Longest pause after a failure, unless the ordinary one is longer."""


class Every:
    """Calls something every so many seconds until the process is asked to end; a failure is logged and never ends it.

    Args:
        seconds: Pause between two calls.
        call: What is called.
        name: Of the thread, for the log.
        shutdown: Set when the process is asked to end.
        wake: Set by whoever wants the next call at once; whoever sets ``shutdown`` then sets it as well.
        at_once: Whether the first call comes before the first pause.
        at_end: Called at last.
    """

    def __init__(
        self,
        seconds: float,
        call: Callable[[], Any],
        name: str,
        shutdown: threading.Event,
        *,
        wake: threading.Event | None = None,
        at_once: bool = False,
        at_end: Callable[[], Any] | None = None,
    ) -> None:
        self._seconds, self._call, self._shutdown = seconds, call, shutdown
        self._wake, self._at_once, self._at_end = wake, at_once, at_end
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, which comes after ``shutdown`` is set; whether it came in time, or nothing had begun."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        log, pause = get_logger(), self._seconds
        if not self._at_once:
            self._shutdown.wait(pause)
        while not self._shutdown.is_set():
            if self._wake is not None:
                self._wake.clear()
            try:
                self._call()
                pause = self._seconds
            except Exception as error:  # a database, a disk or a device that is away for a while
                pause = max(self._seconds, min(MAX_PAUSE_SECONDS, 2 * pause))
                log.error("background_call_failed", task=self._thread.name, error=str(error), next_try_seconds=pause)
            (self._wake or self._shutdown).wait(pause)
        if self._at_end is not None:
            self._at_end()
