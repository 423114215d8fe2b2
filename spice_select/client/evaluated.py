"""An evaluation of what a job chose, as the service answers it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from spice_select.client.models import ENDED, Answer, Problem, Progress


class Evaluation(Answer):
    """Whether a choice trains better. ``status``: queued, running, succeeded, failed or cancelled.

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
