"""Keeps the lease of one unit alive from a thread of its own, carries the progress out and the wish to stop in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

from app.logs import get_logger
from app.persistence.repositories.unit_logs import LogLine
from app.services.units.leases import Claim, Report
from app.services.units.service import UnitService
from app.settings import Settings
from app.status import JobStatus
from spice_select.models.memory import held_bytes
from spice_select.pipeline.progress import PhaseTimer

REPORT_SECONDS = 1.0
LEASE_SHARE = 0.75
FAREWELL_SECONDS = 1.0


class Heartbeat:
    """Lease, progress and stop of a claimed unit; a context manager around the work.

    Args:
        units: Where the lease is renewed.
        claim: The lease.
        settings: For lease, heartbeat and stall times.
        shutdown: Set when the process is asked to end.
        wedged: Called when work that has stalled does not end although its lease is gone.
    """

    def __init__(
        self,
        units: UnitService,
        claim: Claim,
        settings: Settings,
        shutdown: threading.Event,
        wedged: Callable[[], object] | None = None,
    ) -> None:
        self.units, self.claim, self.settings, self.shutdown, self.wedged = units, claim, settings, shutdown, wedged
        self.lost = False
        self.stop: str | None = None
        self._log = get_logger(unit_id=claim.unit_id, epoch=claim.epoch)
        self._report = Report(phase=None, completed=0, total=None, measure=None, rate=None)
        self._phase_began = self._moved_at = self._renewed_at = time.monotonic()
        self._already = 0
        self._timer = PhaseTimer()
        self._lines: list[LogLine] = []
        self._lines_lock = threading.Lock()
        self._end = threading.Event()
        self._beat_now = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{claim.unit_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._end.set()
        self._beat_now.set()
        self._thread.join()

    def phase(self, name: str, total: int | None = None, measure: str | None = None, *, already: int = 0) -> None:
        """Say which step begins, and how much of it had been done before; told at once."""
        self._timer.enter(name)
        with self._lines_lock:
            self._lines += [*self._phase_line(), LogLine("info", "phase_began", f"{name} began", {"phase": name})]
        self._phase_began = self._moved_at = time.monotonic()
        self._already = already
        self._report = Report(phase=name, completed=already, total=total, measure=measure, rate=None)
        self._beat_now.set()

    def advance(self, completed: int, total: int | None = None, tokens: int | None = None) -> None:
        """Say how far the step is, and how many tokens went through so far; told with the next heartbeat."""
        now = time.monotonic()
        old = self._report
        if completed != old.completed:
            self._moved_at = now
        done, seconds = completed - self._already, now - self._phase_began
        rate = done / seconds if done > 0 and seconds > 0 else None
        self._report = Report(
            phase=old.phase,
            completed=completed,
            total=total if total is not None else old.total,
            measure=old.measure,
            rate=rate,
            token_rate=tokens / seconds if tokens and seconds > 0 else None,
        )

    def should_stop(self) -> bool:
        """Whether the work is to end at the next chance: lost lease, cancelled job, or the process is going down."""
        return self.lost or self.stop is not None or self.shutdown.is_set()

    def stop_reason(self) -> bool | Literal["deadline"]:
        """``should_stop`` of a selection, which keeps its prefix and says why it ended."""
        return "deadline" if self.stop == JobStatus.EXPIRED else self.should_stop()

    def _phase_line(self) -> list[LogLine]:
        """What the phase that ends now did, for the log."""
        report = self._report
        if report.phase is None:
            return []
        seconds = round(time.monotonic() - self._phase_began, 3)
        data: dict[str, Any] = {"phase": report.phase, "seconds": seconds}
        counted = ""
        if report.measure is not None and report.completed:
            data[report.measure] = report.completed
            counted = f": {report.completed:,} {report.measure}"
        if report.token_rate is not None:
            data["tokens_per_second"] = round(report.token_rate, 1)
        return [LogLine("info", "phase_ended", f"{report.phase} took {seconds:.3f} s{counted}", data)]

    def take_lines(self) -> list[LogLine]:
        """What the log does not say yet; whoever takes it writes it down."""
        with self._lines_lock:
            lines, self._lines = self._lines, []
        return lines

    def last_lines(self) -> list[LogLine]:
        """The same at the end of the work, with what the phase that ends with it did."""
        return [*self.take_lines(), *self._phase_line()]

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far."""
        return self._timer.seconds()

    def _run(self) -> None:
        while not self._end.is_set():
            self._beat_now.clear()
            self._beat()
            if self.lost:
                return
            self._beat_now.wait(min(self.settings.heartbeat_seconds, REPORT_SECONDS))

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._moved_at > self.settings.stall_seconds:
            # A wedged device keeps this thread alive; it must not keep the lease.
            self._log.error("unit_stalled", seconds=round(now - self._moved_at))
            self.lost = True
            # As long again to notice it; then nobody but a new process can take up work here.
            if self.wedged is not None and not self._end.wait(self.settings.stall_seconds):
                self._log.error("process_wedged")
                self.wedged()
            return
        try:
            memory = held_bytes()
        except Exception as error:  # a lease must not hang on what the process loads, or on its device
            self._log.warning("memory_unknown", error=str(error))
            memory = None
        lines = self.take_lines()
        try:
            reply = self.units.heartbeat(self.claim, replace(self._report, memory_bytes=memory), lines)
        except Exception as error:  # whatever keeps us from the database, the lease decides
            with self._lines_lock:
                self._lines[:0] = lines
            self._log.warning("heartbeat_failed", error=str(error))
            if time.monotonic() - self._renewed_at > LEASE_SHARE * self.settings.lease_seconds:
                self.lost = True
            return
        self._renewed_at = time.monotonic()
        if not reply.held:
            self.lost = True
            if reply.stop is not None:
                self._log.info("stop_requested", outcome=reply.stop)
                self.stop = reply.stop
            # A beat that was under way when the unit was committed finds no lease either, and nothing was lost then.
            elif not self._end.wait(FAREWELL_SECONDS):
                self._log.warning("lease_lost")
        elif reply.stop is not None and self.stop is None:
            self._log.info("stop_requested", outcome=reply.stop)
            self.stop = reply.stop
