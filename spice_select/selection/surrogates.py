"""The two surrogates of the authors' code, in float64: a diagonal and a scalar stand-in for the Fisher matrix.

Diagonal: den starts at ones(d), s = sum(g^2 / den), gain = log(1 + alpha s), and a pick adds alpha (|g| g)^2 to den.
Scalar: s = |g|^2 / (1 + alpha) whatever was picked, gain = log(1 + alpha s).
Neither is the gain of U(S): their gains do not add up to the utility.
"""

from __future__ import annotations

from typing import Literal

import torch

from spice_select.selection.gradient_matrix import GradientMatrix


class DiagonalInformation:
    """Gains under the diagonal surrogate; they only fall as the set grows.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: GradientMatrix, alpha: float) -> None:
        self._candidates, self._alpha = candidates, alpha
        self._denominator = torch.ones(candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._inverse = self._denominator.clone()

    def alone(self) -> torch.Tensor:
        """Gains of all rows over the empty set, nats, float64 of shape (n,) on the CPU."""
        return torch.log1p(self._alpha * self._candidates.squared_norms).cpu()

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Gains now, nats, float64 on the CPU.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return torch.log1p(self._alpha * (self._candidates.take(rows).square_() @ self._inverse)).cpu()

    def add(self, gradient: torch.Tensor) -> None:
        """Add a sample to the set.

        Args:
            gradient: Its gradient, float64 of shape (d,).
        """
        self._denominator.add_(gradient.square().square_(), alpha=self._alpha)
        torch.reciprocal(self._denominator, out=self._inverse)


class ScalarInformation:
    """Gains under the scalar surrogate; they never change.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: GradientMatrix, alpha: float) -> None:
        self._gains = torch.log1p(alpha * candidates.squared_norms / (1.0 + alpha)).cpu()

    def alone(self) -> torch.Tensor:
        """Gains of all rows over the empty set, nats, float64 of shape (n,) on the CPU."""
        return self._gains.clone()

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Gains, nats, float64 on the CPU.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        return self._gains[rows]

    def add(self, gradient: torch.Tensor) -> None:
        """Nothing changes.

        Args:
            gradient: Gradient of the sample that joins the set.
        """


def surrogate(
    candidates: GradientMatrix, information: Literal["diagonal", "scalar"], alpha: float
) -> DiagonalInformation | ScalarInformation:
    """The surrogate of this name, for the empty set.

    Args:
        candidates: The pool.
        information: Its name.
        alpha: Fisher scale.
    """
    return (DiagonalInformation if information == "diagonal" else ScalarInformation)(candidates, alpha)
