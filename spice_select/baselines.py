"""Controls on the same gradients: rows at random, rows with the longest gradients, with the same evidence per pick."""

from __future__ import annotations

import torch

from spice_select.candidates import Candidates, Gradients
from spice_select.config import SelectionConfig
from spice_select.conflict import conflict
from spice_select.fisher import FisherLogDet, log_determinant
from spice_select.lazy import Information
from spice_select.scoring import TIE, Proposal
from spice_select.surrogates import surrogate
from spice_select.window import Window

BLOCK = 128
"""Rows whose inner products are taken together; does not affect results."""


def random_order(size: int, seed: int) -> torch.Tensor:
    """All rows in a random order, int64 of shape (size,), the same on every machine.

    Args:
        size: Number of rows, n.
        seed: Seed of the draw.
    """
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def norm_order(squared_norms: torch.Tensor) -> torch.Tensor:
    """All rows, the longest gradient first, ties (to rounding) to the lower row; int64 of shape (n,).

    Args:
        squared_norms: |g|^2, float64 of shape (n,).
    """
    values, order = squared_norms.cpu().sort(descending=True, stable=True)
    # A row belongs to the tie of the row before it when the two differ only by rounding.
    group = torch.cat([torch.zeros(1, dtype=torch.int64), (values[1:] < values[:-1] * (1.0 - TIE)).cumsum(0)])
    by_row = order.argsort(stable=True)
    return order[by_row[group[by_row].argsort(stable=True)]]


class FixedOrder:
    """Proposes rows in an order fixed beforehand, with the gain and conflict each has at its turn.

    Args:
        candidates: The pool.
        config: Settings of the run: method, information, alpha, conflict penalty and seed are used.

    Attributes:
        refreshed: Number of gains computed.
    """

    def __init__(self, candidates: Candidates, config: SelectionConfig) -> None:
        norms = candidates.squared_norms.cpu()
        by_norm = config.method == "top_norm"
        self._order = norm_order(norms) if by_norm else random_order(candidates.size, config.seed)
        self._position = 0
        self._penalty = config.conflict_penalty
        self._alone = gains_alone(norms, config) if by_norm else None
        self._turns: LogDetTurns | SurrogateTurns = (
            LogDetTurns(candidates, config.alpha)
            if config.information == "logdet"
            else SurrogateTurns(candidates, surrogate(candidates, config.information, config.alpha))
        )
        self.refreshed = 0

    def propose(self, allowed: torch.Tensor) -> Proposal | None:
        """The next allowed row of the order, or None when there is none.

        Args:
            allowed: Rows that may be chosen, bool of shape (n,) on the CPU; a closed row never opens again.

        Returns:
            The choice, whose score is what the order was made by (the gain over the empty set) for ``top_norm``, and
            the score that SPICE would have given it for ``random``; ``accept`` makes it part of the set.
        """
        while self._position < len(self._order) and not bool(allowed[self._order[self._position]]):
            self._position += 1
        if self._position == len(self._order):
            return None
        row = int(self._order[self._position])
        ahead = self._order[self._position : self._position + 4 * BLOCK]
        gain, against = self._turns.look(row, ahead[allowed[ahead]][:BLOCK])
        score = gain - self._penalty * against if self._alone is None else float(self._alone[row])
        return Proposal(row, gain, against, score, 0)

    def accept(self, proposal: Proposal) -> None:
        """Add the proposed row to the set.

        Args:
            proposal: What ``propose`` returned last.
        """
        self.refreshed += 1
        self._position += 1
        self._turns.take(proposal.row)


class LogDetTurns:
    """Gain and conflict of one row after another under logdet, a block of rows at a time.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: Candidates, alpha: float) -> None:
        self._candidates = candidates
        self._fisher = FisherLogDet(candidates.dimension, alpha, candidates.device)
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._place_of: dict[int, int] = {}
        self._window: Window | None = None

    def look(self, row: int, ahead: torch.Tensor) -> tuple[float, float]:
        """Gain (nats) and conflict of a row now.

        Args:
            row: The row.
            ahead: Rows likely to be asked for next, this one first.
        """
        if self._window is None or row not in self._place_of:
            if self._window is not None:
                self._window.close()
            self._place_of = {int(other): place for place, other in enumerate(ahead)}
            norms = self._candidates.squared_norms[ahead.to(self._candidates.device)].cpu()
            gradients = self._candidates.take(ahead)
            self._window = Window(gradients, norms, None, self._fisher, self._total, len(ahead))
            self._window.add_columns(torch.arange(len(ahead)))
        place = self._place_of[row]
        return float(self._window.gains()[place]), float(self._window.conflicts()[place])

    def take(self, row: int) -> None:
        """Add a row to the set.

        Args:
            row: The row last looked at.
        """
        assert self._window is not None
        self._window.pick(self._place_of[row])


class SurrogateTurns:
    """Gain and conflict of one row after another under a surrogate.

    Args:
        candidates: The pool.
        information: The surrogate, for the empty set.
    """

    def __init__(self, candidates: Candidates, information: Information) -> None:
        self._candidates, self._information = candidates, information
        self._total = torch.zeros(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._count = 0

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
        self._information.add(row)
        self._total += self._candidates.take(torch.tensor([row]))[0]
        self._count += 1


def gains_alone(squared_norms: torch.Tensor, config: SelectionConfig) -> torch.Tensor:
    """Delta_x(empty set) of every row in the configured information, nats, float64 of shape (n,).

    Args:
        squared_norms: |g|^2, float64 of shape (n,).
        config: Settings of the run: information and alpha are used.
    """
    shrink = 1.0 + config.alpha if config.information == "scalar" else 1.0
    return torch.log1p(config.alpha * squared_norms / shrink)


def random_control(gradients: Gradients | Candidates, config: SelectionConfig, count: int, seed: int) -> float:
    """Utility (nats) of ``count`` rows drawn at random with this seed: what a choice has to beat.

    Args:
        gradients: Per-sample gradients of shape (n, d).
        config: The run's settings; alpha is used.
        count: Rows to draw, at most n.
        seed: Seed of the draw.
    """
    candidates = gradients if isinstance(gradients, Candidates) else Candidates(gradients)
    return log_determinant(candidates.take(random_order(candidates.size, seed)[:count]), config.alpha)
