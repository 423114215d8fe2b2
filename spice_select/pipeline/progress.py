"""How far a run on one machine is, and how long each of its steps took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

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


class Clock:
    """Reports steps and remembers how long each phase took, in seconds.

    Args:
        on_progress: Told about every step.
    """

    def __init__(self, on_progress: Callable[[RunProgress], None] | None) -> None:
        self._on_progress = on_progress
        self._phases: dict[str, float] = {}
        self._phase, self._unit, self._since = "", "steps", time.monotonic()

    def enter(self, phase: str, *, unit: str = "steps") -> None:
        """Begin a phase."""
        self.seconds()
        self._phase, self._unit = phase, unit
        self.tell(0, 0)

    def tell(self, completed: int, total: int, tokens: int = 0) -> None:
        """Report a count of the present phase."""
        if self._on_progress is not None:
            self._on_progress(RunProgress(self._phase, completed, total, self._unit, tokens, held_bytes()))

    def seconds(self) -> dict[str, float]:
        """Seconds per phase so far."""
        now = time.monotonic()
        if self._phase:
            self._phases[self._phase] = round(self._phases.get(self._phase, 0.0) + now - self._since, 3)
        self._since = now
        return dict(self._phases)
