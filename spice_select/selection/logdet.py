"""Exact log-determinant information: utility U(S) = logdet(I + alpha F_S) and its quadratic forms, in float64.

With P = (I + alpha F_S)^-1 the marginal gain is Delta_x(S) = log(1 + alpha g_x^T P g_x). P is not inverted: each pick
j lowers it by v_j v_j^T, v_j = P g_j sqrt(alpha / (1 + alpha g_j^T P g_j)), so P = I - V^T V, and the quadratic form
of a sample falls by (g_x . v_j)^2. While |S| << d this is kept as V (the space of picks); beyond, P itself is kept too
(the space of features), and per sample the cheaper of the two is used.
"""

from __future__ import annotations

import math

import torch

from spice_select.errors import SpiceError
from spice_select.selection.lowrank import LowRankUpdates

ROUNDING = 2.0**-52
"""Spacing of float64 around one."""


WORST_PIVOT_RATIO = 1e5
"""Largest over smallest Cholesky pivot up to which results from the factor are trusted (about 1e-6 of a gain)."""


PRECISION = 1e-8
"""Relative rounding error of a gain above which subtracting projections is given up for a slower, safer way."""


class PrecisionLostError(SpiceError):
    """Gradients so long that subtracting projections no longer leaves digits to compare; never leaves the library."""


def capacitance(rows: torch.Tensor, alpha: float) -> torch.Tensor:
    """I + alpha R^T R or I + alpha R R^T, whichever is smaller; both have the same determinant.

    Args:
        rows: Gradients R of a set, float64 of shape (m, d).
        alpha: Fisher scale.

    Returns:
        float64 of shape (s, s) with s = min(m, d).
    """
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    gram.mul_(alpha).diagonal().add_(1.0)
    return gram


def stable_factor(matrix: torch.Tensor) -> torch.Tensor | None:
    """Lower Cholesky factor of a matrix, or None when rounding would spoil what is computed from it.

    Args:
        matrix: Symmetric, float64 of shape (s, s).
    """
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal()
    if int(failed) != 0 or float(pivots.max()) > WORST_PIVOT_RATIO * float(pivots.min()):
        return None
    return factor


def log_determinant(rows: torch.Tensor, alpha: float) -> float:
    """Utility U(S) = logdet(I + alpha F_S), nats.

    Args:
        rows: Gradients of the set, float64 of shape (m, d).
        alpha: Fisher scale.
    """
    if len(rows) == 0:
        return 0.0
    factor = stable_factor(capacitance(rows, alpha))
    if factor is not None:
        return float(2.0 * factor.diagonal().log().sum())
    # One gain after the other, the longest row first: slower, and no number is formed that swallows the identity.
    vectors = rows[rows.norm(dim=1).argsort(descending=True)].clone()
    utility = 0.0
    for first in range(len(vectors)):
        length = float(vectors[first].norm())
        utility += math.log1p(alpha * length**2)
        if length > 0.0:
            vectors[first + 1 :] = whiten(vectors[first + 1 :], vectors[first] / length, alpha * length**2)
    return utility


def whiten(vectors: torch.Tensor, unit: torch.Tensor, information: float) -> torch.Tensor:
    """Shrink the part of each vector along a unit vector by 1 / sqrt(1 + information) and leave the rest alone.

    The split is made twice, because after the first time rounding has left a trace of the unit vector in the rest that
    is large beside the shrunken part.

    Args:
        vectors: float64 of shape (m, d).
        unit: A vector of length one, shape (d,).
        information: alpha |w|^2 of the pick w along the unit vector.

    Returns:
        float64 of shape (m, d).
    """
    along = vectors @ unit
    rest = torch.addmm(vectors, along[:, None], unit[None], alpha=-1.0)
    rest.addmm_((rest @ unit)[:, None], unit[None], alpha=-1.0)
    return rest.addmm_((along / math.sqrt(1.0 + information))[:, None], unit[None])


class FisherLogDet:
    """P = (I + alpha F_S)^-1 of a growing set S.

    Args:
        dimension: Length of a gradient, d.
        alpha: Fisher scale.
        device: Where the arithmetic runs.
        single: Whether ``lowered_at_most`` is wanted.
        features_from: Size of S beyond which P itself is kept; None for what suits ``project``.

    Attributes:
        amplification: Largest alpha |g|^2 / (1 + alpha g^T P g) of a pick: how much its rounding is amplified in v.
    """

    def __init__(
        self,
        dimension: int,
        alpha: float,
        device: torch.device,
        *,
        single: bool = False,
        features_from: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.amplification = 0.0
        self._directions = LowRankUpdates(dimension, device, single=single)
        self._features_from = dimension // 2 + 1 if features_from is None else features_from
        self._inverse: torch.Tensor | None = None

    @property
    def count(self) -> int:
        """Size of S."""
        return self._directions.count

    @property
    def dimension(self) -> int:
        """Length of a gradient, d."""
        return self._directions.dimension

    @property
    def directions(self) -> torch.Tensor:
        """The v_j that are kept, in pick order, float64 of shape (count - first kept, d)."""
        return self._directions.kept

    def project(self, rows: torch.Tensor) -> torch.Tensor:
        """P g of each row.

        Args:
            rows: float64 of shape (m, d).

        Returns:
            float64 of shape (m, d).
        """
        if self._inverse is not None:
            return rows @ self._inverse
        return torch.addmm(rows, rows @ self.directions.T, self.directions, alpha=-1.0)

    def products(self, rows: torch.Tensor) -> torch.Tensor:
        """Products g . v_j of each row for every v_j that is kept, float64 of shape (m, count - first kept).

        Args:
            rows: float64 of shape (m, d).
        """
        return rows @ self.directions.T

    def lowered(self, forms: torch.Tensor, stamps: torch.Tensor, rows: torch.Tensor, until: int) -> torch.Tensor:
        """Quadratic forms g^T P g when S had ``until`` samples, from what they were earlier.

        Args:
            forms: Quadratic forms as they were, float64 of shape (m,).
            stamps: Size of S at that time, int64 of shape (m,); forms of a later time than ``until`` stay as they are.
            rows: Gradients, float64 of shape (m, d).
            until: A size of S, at most its present one.

        Returns:
            float64 of shape (m,).
        """
        return forms - self._directions.taken(rows, stamps, until)

    def lowered_at_most(
        self, forms: torch.Tensor, stamps: torch.Tensor, rows: torch.Tensor, squared_norms: torch.Tensor, until: int
    ) -> torch.Tensor:
        """Upper bounds on what ``lowered`` computes, from upper bounds and float32 gradients, at half the cost.

        Args:
            forms: Upper bounds on the quadratic forms as they were, float64 of shape (m,).
            stamps: As for ``lowered``.
            rows: Gradients, float32 of shape (m, d).
            squared_norms: |g|^2, float64 of shape (m,), within ``directions.SINGLE_RANGE`` or zero.
            until: As for ``lowered``.

        Returns:
            float64 of shape (m,).
        """
        return forms - self._directions.taken_at_least(rows, squared_norms, stamps, until)

    def can_start_afresh(self, oldest: int) -> bool:
        """Whether forms this old are cheaper, or only, to be had from P itself.

        Args:
            oldest: Size of S when they were up to date.
        """
        return self._inverse is not None and (self.count - oldest > self.dimension or oldest < self._directions.first)

    def forms(self, rows: torch.Tensor) -> torch.Tensor:
        """Quadratic forms g^T P g now, float64 of shape (m,).

        Args:
            rows: Gradients, float64 of shape (m, d).
        """
        return (rows * self.project(rows)).sum(dim=1)

    def extend(self, directions: torch.Tensor, squared_norms: torch.Tensor, forms: torch.Tensor) -> None:
        """Add samples to S.

        Args:
            directions: Their v_j in order, float64 of shape (p, d).
            squared_norms: Their |g|^2, shape (p,).
            forms: Their g^T P g at the moment each was added, shape (p,).
        """
        self.amplification = max(
            self.amplification, float((self.alpha * squared_norms / (1.0 + self.alpha * forms)).max())
        )
        if self._inverse is None and self.count + len(directions) > self._features_from:
            self._inverse = torch.eye(self.dimension, dtype=torch.float64, device=directions.device)
            self._inverse.addmm_(self.directions.T, self.directions, alpha=-1.0)
        if self._inverse is not None:
            self._inverse.addmm_(directions.T, directions, alpha=-1.0)
        self._directions.append(directions)
        if self._inverse is not None and len(self.directions) >= 3 * self.dimension:
            # With P at hand only the last d directions can be cheaper than P itself.
            self._directions.drop_before(self.count - self.dimension)

    def rounding(self, squared_norms: torch.Tensor, forms: torch.Tensor) -> torch.Tensor:
        """How far a quadratic form can be off by rounding, estimated from above.

        The form is a difference of numbers up to |g|^2, and each (g . v_j)^2 carries the rounding of v_j.

        Args:
            squared_norms: |g|^2, shape (m,).
            forms: Quadratic forms, shape (m,).
        """
        return ROUNDING * (8.0 * squared_norms + 4.0 * math.sqrt(self.amplification) * (squared_norms * forms).sqrt())
