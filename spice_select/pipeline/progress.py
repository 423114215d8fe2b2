"""How far a run on one machine is, and how long each of its steps took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from spice_select.models.memory import held_bytes


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        phase: ``validating``, ``loading_model``, ``warming_up``, ``computing_gradients``, ``loading_gradients``,
            ``selecting``, ``choosing_windows`` (which measures, chooses and tunes in turn) or ``writing_files``.
        completed: Done so far in this phase.
        total: To be done in this phase; 0 where it is not known.
        unit: What is counted: ``bytes``, ``samples``, ``picks`` or ``steps``.
        tokens: Tokens that went through the model so far in this phase, where they are counted.
        memory_bytes: Memory that this process holds: of its GPU where it computes on one, else of the machine.
    """

    phase: str
    completed: int
    total: int
    unit: str
    tokens: int = 0
    memory_bytes: int | None = None


class PhaseReport(Protocol):
    """Where a run says how far it is: the clock of this process, or the heartbeat of a unit."""

    def phase(self, name: str, total: int | None = None, measure: str | None = None, *, already: int = 0) -> None:
        """Begin a phase.

        Args:
            name: See ``RunProgress.phase``.
            total: What is to be done, where it is known.
            measure: What is counted.
            already: What of it was done before.
        """

    def advance(self, completed: int, total: int | None = None, tokens: int | None = None) -> None:
        """Report a count of the present phase.

        Args:
            completed: Done so far.
            total: To be done; None leaves what was said before.
            tokens: Tokens that went through the model so far, where they are counted.
        """

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far."""


class PhaseTimer:
    """Remembers how long each phase took."""

    def __init__(self) -> None:
        self._phases: dict[str, float] = {}
        self._phase, self._since = "", time.monotonic()

    def enter(self, phase: str) -> None:
        """Begin a phase; the one before ends."""
        self.seconds()
        self._phase = phase

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far."""
        now = time.monotonic()
        if self._phase:
            self._phases[self._phase] = round(self._phases.get(self._phase, 0.0) + now - self._since, 3)
        self._since = now
        return dict(self._phases)


class Clock:
    """Reports phases to a callback and remembers how long each took.

    Args:
        on_progress: Told about every step.
    """

    def __init__(self, on_progress: Callable[[RunProgress], None] | None) -> None:
        self._on_progress = on_progress
        self._timer = PhaseTimer()
        self._phase, self._measure, self._total = "", "steps", 0

    def phase(self, name: str, total: int | None = None, measure: str | None = None, *, already: int = 0) -> None:
        """Begin a phase."""
        self._timer.enter(name)
        self._phase, self._measure = name, measure or "steps"
        self.advance(already, total or 0)

    def advance(self, completed: int, total: int | None = None, tokens: int | None = None) -> None:
        """Report a count of the present phase."""
        if total is not None:
            self._total = total
        if self._on_progress is not None:
            progress = RunProgress(self._phase, completed, self._total, self._measure, tokens or 0, held_bytes())
            self._on_progress(progress)

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far."""
        return self._timer.seconds()
