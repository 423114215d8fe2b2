"""An evaluation of a selection, as the service answers it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from spice_select.client.models import ENDED, Answer, Problem, Progress


class Evaluation(Answer):
    """Whether a selection trains a better model. ``status``: queued, running, succeeded, failed or cancelled.

    ``result`` is the report, the same as that of ``spice-select evaluate``: ``verdict`` (``better``, ``worse``,
    ``no_difference`` or ``cannot_tell``), the ``sentence`` that says it, ``power``, ``arms``, ``comparisons``.
    """

    id: str
    name: str | None = None
    status: str
    phase: str | None = None
    job_id: str
    dataset_id: str | None = None
    holdout_dataset_id: str | None = None
    model: dict[str, Any] = Field(default_factory=dict)
    model_revision: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    group: str | None = None
    max_length: int | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: Problem | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    version: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it is in a state it does not leave."""
        return self.status in ENDED

    @property
    def step(self) -> str | None:
        """The step it is in."""
        return self.phase


class EvaluationEstimate(Answer):
    """What an evaluation would take; None where nothing is known, and then ``notes`` say why.

    ``trainings`` is the number of arms times that of seeds, ``steps`` those of each training; ``tokens`` and
    ``seconds`` are those of all trainings one after the other.
    """

    rows: int
    chosen: int
    held_out: int
    arms: list[str] = Field(default_factory=list)
    trainings: int
    steps: int
    tokens: int | None = None
    tokens_basis: str | None = None
    seconds: float | None = None
    cost: dict[str, Any] | None = None
    notes: list[str] = Field(default_factory=list)
