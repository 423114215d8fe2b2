"""The log-determinant for gradients of very different lengths: no subtraction of large numbers, at a higher price.

Every sample carries w = (product of one factor per pick) g with |w|^2 = g^T (I + alpha F_S)^-1 g. Adding j shrinks the
part of each w along w_j by 1 / sqrt(1 + alpha |w_j|^2) and leaves the rest alone.
"""

from __future__ import annotations

import torch

from spice_select.candidates import Candidates
from spice_select.fisher import whiten


class WhitenedRows:
    """Gains under logdet, accurate to what the input's own rounding allows. Memory: n d float64.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: Candidates, alpha: float) -> None:
        self._alpha = alpha
        self._alone = torch.log1p(alpha * candidates.squared_norms).cpu()
        self._rows = torch.cat([block for _, block in candidates.blocks()])
        self._stamps = [0] * candidates.size
        self._units: list[torch.Tensor] = []
        self._information: list[float] = []

    def alone(self) -> torch.Tensor:
        """Gains of all rows over the empty set, nats, float64 of shape (n,) on the CPU."""
        return self._alone.clone()

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Marginal gains now, nats, float64 on the CPU.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        count = len(self._units)
        stamps = torch.tensor([self._stamps[row] for row in rows.tolist()])
        device = self._rows.device
        vectors = self._rows[rows.to(device)]
        for step in range(int(stamps.min()), count):
            behind = torch.nonzero(stamps <= step).flatten().to(device)
            vectors[behind] = whiten(vectors[behind], self._units[step], self._information[step])
        self._rows[rows.to(device)] = vectors
        for row in rows.tolist():
            self._stamps[row] = count
        return torch.log1p(self._alpha * vectors.square().sum(dim=1)).cpu()

    def add(self, gradient: torch.Tensor) -> None:
        """Add a sample to the set.

        Args:
            gradient: Its gradient, float64 of shape (d,).
        """
        vector = gradient[None]
        for unit, information in zip(self._units, self._information, strict=True):
            vector = whiten(vector, unit, information)
        length = float(vector.norm())
        if length > 0.0:
            self._units.append(vector[0] / length)
            self._information.append(self._alpha * length**2)
