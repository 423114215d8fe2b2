"""The log-determinant for gradients of very different lengths: no subtraction of large numbers, at a higher price.

Every sample carries w = (product of one factor per pick) g with |w|^2 = g^T (I + alpha F_S)^-1 g. Adding j shrinks the
part of each w along w_j by 1 / sqrt(1 + alpha |w_j|^2) and leaves the rest alone.
"""

from __future__ import annotations

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.logdet import whiten

KEPT_BYTES = 2 * 2**30
"""Most memory for shortened rows, bytes; rows beyond it are shortened anew. Does not affect results."""


class WhitenedRows:
    """Gains under logdet, accurate to what the input's own rounding allows.

    Memory: the w of as many rows as fit ``KEPT_BYTES``, those asked for last, and one vector of d numbers a pick.

    Args:
        candidates: The pool.
        alpha: Fisher scale.
    """

    def __init__(self, candidates: GradientMatrix, alpha: float) -> None:
        self._candidates, self._alpha = candidates, alpha
        most = max(1, min(candidates.size, KEPT_BYTES // (8 * candidates.dimension)))
        self._kept = torch.empty(most, candidates.dimension, dtype=torch.float64, device=candidates.device)
        self._row_at = torch.full((most,), -1, dtype=torch.int64)  # the row at each place, or -1
        self._place_of = torch.full((candidates.size,), -1, dtype=torch.int64)
        self._stamps = torch.zeros(candidates.size, dtype=torch.int64)
        self._next = 0
        self._units: list[torch.Tensor] = []
        self._information: list[float] = []

    def alone(self) -> torch.Tensor:
        """Gains of all rows over the empty set, nats, float64 of shape (n,) on the CPU."""
        return torch.log1p(self._alpha * self._candidates.squared_norms).cpu()

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Marginal gains now, nats, float64 on the CPU.

        Args:
            rows: Row numbers, int64 of shape (m,).
        """
        count, device = len(self._units), self._candidates.device
        stamps = self._stamps[rows]
        vectors = self._vectors(rows)
        for step in range(int(stamps.min()), count):
            behind = torch.nonzero(stamps <= step).flatten().to(device)
            vectors[behind] = whiten(vectors[behind], self._units[step], self._information[step])
        self._keep(rows, vectors, count)
        return torch.log1p(self._alpha * vectors.square().sum(dim=1)).cpu()

    def _vectors(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows' w as of their stamps, float64 of shape (m, d)."""
        places = self._place_of[rows]
        is_kept = places >= 0
        if bool(is_kept.all()):
            return self._kept[places.to(self._candidates.device)]
        vectors = torch.empty(len(rows), self._candidates.dimension, dtype=torch.float64, device=self._kept.device)
        vectors[is_kept.to(vectors.device)] = self._kept[places[is_kept].to(vectors.device)]
        vectors[~is_kept.to(vectors.device)] = self._candidates.take(rows[~is_kept])
        return vectors

    def _keep(self, rows: torch.Tensor, vectors: torch.Tensor, count: int) -> None:
        """Keep the vectors as of ``count`` picks; the rows kept longest make room, and begin anew when asked for."""
        new = torch.nonzero(self._place_of[rows] < 0).flatten()[: len(self._row_at)]
        places = (self._next + torch.arange(len(new))) % len(self._row_at)
        self._next = (self._next + len(new)) % len(self._row_at)
        leaving = self._row_at[places]
        leaving = leaving[leaving >= 0]
        self._place_of[leaving], self._stamps[leaving] = -1, 0
        self._row_at[places], self._place_of[rows[new]] = rows[new], places
        kept = torch.nonzero(self._place_of[rows] >= 0).flatten()
        there = self._place_of[rows[kept]].to(self._kept.device)
        self._kept[there], self._stamps[rows[kept]] = vectors[kept.to(vectors.device)], count

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
