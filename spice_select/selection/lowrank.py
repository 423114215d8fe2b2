"""The directions v_j along which picks lower quadratic forms: what the picks since a moment have taken from a form.

Most candidates never come near being chosen; of them it is enough to know what the picks took at least. That is had
from float32 products at half the cost, with a bound on their rounding that holds in any order of summation.
"""

from __future__ import annotations

import torch

CHUNK = 2048
"""Features summed by one float32 product; a shorter chunk gives a tighter bound on its rounding, and less speed."""
SINGLE_ROUNDING = 2.0**-24
"""Largest relative error of one rounding to float32."""
SINGLE_RANGE = (1e-20, 1e20)
"""Squared lengths of gradients between which no product in float32 overflows, and none that matters underflows."""


def single_error(dimension: int) -> float:
    """Bound on the error of a product by ``LowRankUpdates.taken_at_least``, relative to the product of the lengths.

    A sum of m products in any order is off by at most about m roundings, with and without fused multiply-add; the
    chunks are added one after the other; the factors are rounded to float32 once or twice; the rest is slack.

    Args:
        dimension: Number of features, d.
    """
    chunks = -(-dimension // CHUNK)
    return (min(dimension, CHUNK) + chunks + 8) * SINGLE_ROUNDING


class LowRankUpdates:
    """v_j in pick order, of which the first may be dropped.

    Args:
        dimension: Length of a direction, d.
        device: Where they live.
        single: Whether a float32 copy is kept, which ``taken_at_least`` needs.

    Attributes:
        first: Number of the first direction that is kept.
        count: LowRankUpdates appended so far.
    """

    def __init__(self, dimension: int, device: torch.device, *, single: bool = False) -> None:
        self.first = self.count = 0
        self._error = single_error(dimension)
        self._double = torch.empty(0, dimension, dtype=torch.float64, device=device)
        self._single = torch.empty(0, dimension, dtype=torch.float32, device=device) if single else None
        # Sum of |v_j|^2 over the kept ones before each.
        self._lengths = torch.zeros(1, dtype=torch.float64, device=device)

    @property
    def dimension(self) -> int:
        """Length of a direction, d."""
        return self._double.shape[1]

    @property
    def kept(self) -> torch.Tensor:
        """The directions that are kept, float64 of shape (count - first, d)."""
        return self._double[: self.count - self.first]

    def append(self, directions: torch.Tensor) -> None:
        """Add directions.

        Args:
            directions: float64 of shape (p, d).
        """
        used = self.count - self.first
        needed = used + len(directions)
        if needed > len(self._double):
            size = max(64, needed * 3 // 2)
            self._double = _grown(self._double[:used], size)
            self._single = None if self._single is None else _grown(self._single[:used], size)
        self._double[used:needed] = directions
        if self._single is not None:
            self._single[used:needed] = directions
        sums = self._lengths[-1] + directions.square().sum(dim=1).cumsum(0)
        self._lengths = torch.cat([self._lengths, sums])
        self.count += len(directions)

    def drop_before(self, first: int) -> None:
        """Forget the directions with lower numbers.

        Args:
            first: Number of the first to be kept.
        """
        dropped = first - self.first
        for table in (self._double, self._single):
            if table is not None:
                table[: self.count - first] = table[dropped : self.count - self.first].clone()
        self._lengths = self._lengths[dropped:] - self._lengths[dropped]
        self.first = first

    def taken(self, rows: torch.Tensor, stamps: torch.Tensor, until: int) -> torch.Tensor:
        """Sum of (g . v_j)^2 over the directions from ``stamps`` to ``until``.

        Args:
            rows: Gradients, float64 of shape (m, d).
            stamps: Number of the first direction that counts for each, int64 of shape (m,).
            until: Number of the first that does not count.

        Returns:
            float64 of shape (m,).
        """
        start = max(self.first, int(stamps.min()))
        products = self._double[start - self.first : until - self.first] @ rows.T
        return _without_earlier(products, stamps, start).square_().sum(dim=0)

    def taken_at_least(
        self, rows: torch.Tensor, squared_norms: torch.Tensor, stamps: torch.Tensor, until: int
    ) -> torch.Tensor:
        """A lower bound on ``taken``, from float32 products.

        With products p, computed as q, and |q_j - p_j| <= e |g| |v_j|, the length of p is at least that of q less
        e |g| times the length of (|v_j|).

        Args:
            rows: Gradients, float32 of shape (m, d).
            squared_norms: |g|^2, float64 of shape (m,), within ``SINGLE_RANGE`` or zero.
            stamps: As for ``taken``.
            until: As for ``taken``.

        Returns:
            float64 of shape (m,).
        """
        assert self._single is not None
        start = max(self.first, int(stamps.min()))
        directions = self._single[start - self.first : until - self.first]
        whole = self.dimension - self.dimension % CHUNK
        products = directions[:, whole:] @ rows[:, whole:].T
        if whole > 0:
            left = directions[:, :whole].view(len(directions), whole // CHUNK, CHUNK).transpose(0, 1)
            right = rows[:, :whole].view(len(rows), whole // CHUNK, CHUNK).permute(1, 2, 0)
            products += torch.bmm(left, right).sum(dim=0)
        products = _without_earlier(products, stamps, start)
        length = torch.linalg.vector_norm(products, dim=0, dtype=torch.float64)
        spans = self._lengths[until - self.first] - self._lengths[stamps.clamp(start, until) - self.first]
        least: torch.Tensor = length - self._error * (squared_norms * spans).sqrt()
        return least.clamp_(min=0.0).square_()


def _grown(table: torch.Tensor, size: int) -> torch.Tensor:
    larger = table.new_empty(size, table.shape[1])
    larger[: len(table)] = table
    return larger


def _without_earlier(products: torch.Tensor, stamps: torch.Tensor, start: int) -> torch.Tensor:
    """Zero in the place of products, of shape (directions, m), with directions that do not count yet."""
    if int(stamps.max()) > start:
        numbers = torch.arange(start, start + len(products), device=products.device)
        products.masked_fill_(numbers[:, None] < stamps, 0.0)
    return products
