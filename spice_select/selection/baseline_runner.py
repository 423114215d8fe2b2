"""The evidence for rows that another rule chose: gain and conflict of each at its turn, as for SPICE's own picks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Protocol

import torch

from spice_select.config import SelectionConfig
from spice_select.selection.active_block import ActiveBlock, absorb
from spice_select.selection.conflict import conflict
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.lazy_greedy import Information
from spice_select.selection.logdet import PRECISION, FisherLogDet, PrecisionLostError
from spice_select.selection.scoring import Proposal
from spice_select.selection.surrogates import surrogate
from spice_select.selection.whitened_rows import WhitenedRows

BLOCK = 128
"""Rows whose inner products are taken together; does not affect results."""


class BaselineSelector(Protocol):
    """A rule that names the next row, whatever its gain, and in ``task`` the target that it serves, if any."""

    def choose(self, allowed: torch.Tensor) -> tuple[int, float | None] | None:
        """The next allowed row and what the rule ranks it by (None: nothing), or None when there is no row."""

    def ahead(self, allowed: torch.Tensor) -> torch.Tensor:
        """Allowed rows that are likely to be named next, the next one first, int64 of shape (m,) with m >= 1."""

    def take(self, row: int) -> None:
        """The named row has joined the set."""


class Control:
    """Proposes what another rule chooses, with the evidence that SPICE would give for it.

    Args:
        chooser: The rule.
        candidates: The pool.
        config: Settings of the run: information, alpha and conflict penalty are used.

    Attributes:
        refreshed: Number of gains computed.
    """

    def __init__(self, chooser: BaselineSelector, candidates: GradientMatrix, config: SelectionConfig) -> None:
        self._chooser, self._candidates, self._config = chooser, candidates, config
        self._trainings: LogDetGainTracker | InformationGainTracker = (
            LogDetGainTracker(candidates, config.alpha)
            if config.information == "logdet"
            else InformationGainTracker(candidates, surrogate(candidates, config.information, config.alpha))
        )
        self.refreshed = 0

    def safer(self, given: torch.Tensor | None, picks: Sequence[Proposal]) -> Control:
        """The same rule where it stands, with the evidence computed in the way that bears gradients of any length.

        Args:
            given: Gradients absorbed before the first pick.
            picks: The picks so far.
        """
        other = copy(self)
        other._trainings = InformationGainTracker(self._candidates, WhitenedRows(self._candidates, self._config.alpha))
        if given is not None:
            other.absorb(given)
        for pick in picks:
            other._trainings.take(pick.row)
        return other

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set.

        Args:
            gradients: float64 of shape (m, d).
        """
        self._trainings.absorb(gradients)

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The rule's next choice, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU.

        Returns:
            The choice, whose score is the rule's own value, or what SPICE would have given it when the rule has none;
            ``accept`` makes it part of the set.
        """
        chosen = self._chooser.choose(allowed)
        if chosen is None:
            return None
        row, value = chosen
        gain, against = self._trainings.look(row, self._chooser.ahead(allowed))
        score = gain - self._config.conflict_penalty * against if value is None else value
        task: int = getattr(self._chooser, "task", -1)
        return Proposal(row, gain, against, score, 0, task=task, relevance=score if task >= 0 else 0.0)

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        self.refreshed += 1
        self._chooser.take(proposal.row)
        self._trainings.take(proposal.row)


class LogDetGainTracker:
    """Gain and conflict of one row after another under logdet, a block of rows at a time.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: GradientMatrix, alpha: float) -> None:
        self._candidates = candidates
        self._norms = candidates.squared_norms.cpu()
        self._fisher = FisherLogDet(candidates.dimension, alpha, candidates.device)
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._place_of: dict[int, int] = {}
        self._window: ActiveBlock | None = None

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set.

        Args:
            gradients: float64 of shape (m, d).
        """
        absorb(gradients, self._fisher, self._total)

    def look(self, row: int, ahead: torch.Tensor) -> tuple[float, float]:
        """Gain (nats) and conflict of a row now.

        Args:
            row: The row.
            ahead: Rows likely to be asked for next, this one first.

        Raises:
            PrecisionLostError: Rounding may have changed the gain.
        """
        if self._window is None or row not in self._place_of:
            if self._window is not None:
                self._window.flush()
            self._place_of = {int(other): place for place, other in enumerate(ahead)}
            norms = self._norms[ahead]
            gradients = self._candidates.take(ahead)
            self._window = ActiveBlock(gradients, norms, None, self._fisher, self._total, len(ahead), conflicts=False)
            self._window.add_columns(torch.arange(len(ahead)))
        place = self._place_of[row]
        self._window.refresh(torch.tensor([place]))
        form = self._window.forms[place]
        error = self._fisher.alpha * float(self._fisher.rounding(self._norms[row], form))
        gain = math.log1p(self._fisher.alpha * float(form))
        if error > PRECISION * (1.0 + self._fisher.alpha * float(form)) * gain:
            raise PrecisionLostError("gradients too long for the fast way of computing gains")
        return gain, self._window.conflict_of(place)

    def take(self, row: int) -> None:
        """Add a row to the set.

        Args:
            row: The row last looked at.
        """
        assert self._window is not None
        self._window.pick(self._place_of[row])


class InformationGainTracker:
    """Gain and conflict of one row after another under any information, a row at a time.

    Args:
        candidates: The pool.
        information: Where gains come from, for the empty set.
    """

    def __init__(self, candidates: GradientMatrix, information: Information) -> None:
        self._candidates, self._information = candidates, information
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._count = 0

    def absorb(self, gradients: torch.Tensor) -> None:
        """Add gradients that are no candidates to the set.

        Args:
            gradients: float64 of shape (m, d).
        """
        for gradient in gradients:
            self._information.add(gradient)
            self._total += gradient
            self._count += 1

    def look(self, row: int, ahead: torch.Tensor) -> tuple[float, float]:
        """Gain (nats) and conflict of a row now.

        Args:
            row: The row.
            ahead: Rows likely to be asked for next; not needed here.
        """
        del ahead
        rows, size = torch.tensor([row]), max(1, self._count)
        products = (self._candidates.take(rows) @ self._total).cpu() / size
        norms = self._candidates.squared_norms[row].cpu()[None]
        against = conflict(products, norms, float(self._total.norm()) / size)
        return float(self._information.gains(rows)[0]), float(against[0])

    def take(self, row: int) -> None:
        """Add a row to the set.

        Args:
            row: The row last looked at.
        """
        self.absorb(self._candidates.take(torch.tensor([row])))
