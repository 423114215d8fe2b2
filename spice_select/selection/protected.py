"""Sets that must not get worse: a row whose gradient points against the mean gradient of one pays for it.

charge(x) = weight * sum over the sets p of w_p max(0, -cos(g_x, m_p)), a fixed number of each row: what is exact about
a selection without it stays so, because it shifts the score of a row by the same amount at every pick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spice_select.errors import ConfigError
from spice_select.selection.conflict import ETA
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.result import Opposition, Spread
from spice_select.selection.target_rule import means_of
from spice_select.selection.validation import MOST_PROTECTED


@dataclass(frozen=True)
class Protected:
    """How each row of a pool points relative to each protected set.

    Attributes:
        cosines: cos(g_x, m_p) with the mean m_p of each set, in [-1, 1], float64 of shape (sets, n) on the CPU.
        weights: What each set counts for, w_p >= 0.
    """

    cosines: torch.Tensor
    weights: tuple[float, ...]

    def charges(self, weight: float) -> torch.Tensor:
        """What each row pays, float64 of shape (n,).

        Args:
            weight: Weight of the charge, >= 0.
        """
        against = self.cosines.clamp(max=0.0).neg()
        return weight * (torch.tensor(self.weights, dtype=torch.float64) @ against)

    def report(self, picks: Sequence[int], exclude: Sequence[int]) -> list[Opposition]:
        """What the selection does to each set, beside the pool it was made from.

        Args:
            picks: The selected rows.
            exclude: Rows that were never to be selected; they do not count in the pool.
        """
        allowed = torch.ones(self.cosines.shape[1], dtype=torch.bool)
        allowed[torch.tensor(exclude, dtype=torch.int64)] = False
        chosen = torch.tensor(picks, dtype=torch.int64)
        return [Opposition(_spread(row[chosen]), _spread(row[allowed])) for row in self.cosines]


def protect_from(
    candidates: GradientMatrix, sets: Sequence[torch.Tensor], weights: Sequence[float] | None = None
) -> Protected:
    """How the rows of a pool point relative to protected sets, in one pass over the pool.

    Args:
        candidates: The pool.
        sets: Gradients of the rows of each set, float64 of shape (m, d).
        weights: What each set counts for; None for 1 each.

    Raises:
        ConfigError: More than 8 sets.
        PoolError: The rows of a set cancel.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by means_of()
    if len(sets) > MOST_PROTECTED:
        raise ConfigError(f"there may be {MOST_PROTECTED} protected sets, not {len(sets)}", pointer="#/protect")
    means = means_of(sets, "protected set", "#/protect")
    products = torch.cat([block @ means.T for _, block in candidates.blocks()]).T.cpu()
    lengths = means.norm(dim=1).cpu()[:, None] * candidates.squared_norms.sqrt().cpu()
    cosines = (products / (lengths + ETA)).clamp(min=-1.0, max=1.0)
    return Protected(cosines, (1.0,) * len(sets) if weights is None else tuple(weights))


def _spread(cosines: torch.Tensor) -> Spread:
    if len(cosines) == 0:
        return Spread(0, 0, None, None)
    return Spread(len(cosines), int((cosines < 0).sum()), float(cosines.mean()), float(cosines.min()))
