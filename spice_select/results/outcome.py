"""What was chosen, by whichever schedule and on whichever machine, before the files of a result are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spice_select.results.evidence_file import Evidence
from spice_select.results.run_metadata import TargetFacts
from spice_select.selection.result import Selection

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Choice:
    """A selection and what the files say about it.

    Attributes:
        selection: The selection; ``indices`` count candidates.
        positions: Position of each candidate among the usable rows.
        tokens: Tokens of each candidate.
        excluded: Usable rows that are no candidates, each ``{"row": position, "code", "detail"}``.
        truncated: GradientMatrix that were cut at the maximal length.
        halvings: How often a batch was halved for lack of memory.
        random_curve: Picks and utility (nats) of as many candidates drawn at random, on the way and at the end.
        schedule: What the report says about the schedule, unless it is ``offline``.
        targets: What the model should get better at, in the order that ``selection.tasks`` counts.
        votes: Part of the votes of each target that falls to each candidate, shape (targets, candidates); None without.
        floors: Floors that came from the targets; None where the settings say them.
        protected: What must not get worse, in the order of ``selection.opposition``.
        truncated_positions: Positions of those, ascending.
        notes: What the chat template leaves out: a code of ``encoding_notes`` and how many rows it is about.
        decontamination: With which sets the pool was compared, how, and which rows left it; None where with none.
        evidence: Why each row was selected, or not; None where rows were not compared in one pool by one model.
    """

    selection: Selection
    positions: list[int]
    tokens: list[int]
    excluded: list[dict[str, Any]]
    truncated: int
    halvings: int
    random_curve: list[tuple[int, float]]
    schedule: dict[str, Any] | None = None
    targets: Sequence[TargetFacts] = ()
    protected: Sequence[TargetFacts] = ()
    votes: torch.Tensor | None = None
    floors: Mapping[str, int] | None = None
    decontamination: Mapping[str, Any] | None = None
    truncated_positions: Sequence[int] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    evidence: Evidence | None = None

    @property
    def random_utility(self) -> float:
        """What as many candidates drawn at random are worth, nats."""
        return self.random_curve[-1][1] if self.random_curve else 0.0
