"""Whitening of gradients: directions in which the whole pool varies count for less.

Rows are brought to length one, multiplied in each block of p numbers by (C + damping tr(C) / p I)^(-1/2), where C is
the mean of g g^T over the pool, and brought to length one again. A row that is zero stays zero and has no part in C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spice_select.errors import ConfigError, PoolError
from spice_select.selection.gradient_matrix import GradientMatrix, Gradients

LARGEST_BLOCK = 4096
"""Most numbers of a block: its second moment is kept and decomposed whole."""


@dataclass(frozen=True)
class SecondMoments:
    """What a pool says about each block of its gradients, once they have length one.

    Attributes:
        moments: Sum of g g^T over the rows for each block, float64 of shape (p, p).
        count: Rows that are not zero.
    """

    moments: tuple[torch.Tensor, ...]
    count: int

    @property
    def block_sizes(self) -> list[int]:
        """Numbers in each block."""
        return [len(moment) for moment in self.moments]

    def __add__(self, other: SecondMoments) -> SecondMoments:
        """The moments of two pools together.

        Raises:
            PoolError: Their blocks differ.
        """
        if self.block_sizes != other.block_sizes:
            raise PoolError("moments of gradients with other blocks cannot be added")
        sums = tuple(a + b for a, b in zip(self.moments, other.moments, strict=True))
        return SecondMoments(sums, self.count + other.count)


def second_moments(candidates: GradientMatrix, block_sizes: Sequence[int], count: int | None = None) -> SecondMoments:
    """Second moment of each block of the rows at length one, in one pass over the pool.

    Args:
        candidates: The pool.
        block_sizes: Numbers in each block, in the order of the features; they add up to d.
        count: How many of the first rows count; None for all.
    """
    count = candidates.size if count is None else count
    _check_blocks(block_sizes, candidates.dimension)
    unit = candidates.normalized()
    device = candidates.device
    moments = [torch.zeros(size, size, dtype=torch.float64, device=device) for size in block_sizes]
    for start, block in unit.blocks():
        if start >= count:
            break
        rows = block[: count - start]
        for moment, part in zip(moments, torch.split(rows, list(block_sizes), dim=1), strict=True):
            moment.addmm_(part.T, part)
    return SecondMoments(tuple(moments), int((unit.squared_norms[:count] > 0).sum()))


class Whitening:
    """Brings rows to length one, whitens each block and brings them to length one again.

    Args:
        moments: Second moments of the pool.
        damping: Share of the mean eigenvalue of a block that is added to each, > 0.

    Raises:
        PoolError: Every gradient of the pool is zero.
    """

    def __init__(self, moments: SecondMoments, damping: float) -> None:
        if moments.count == 0:
            raise PoolError("every gradient of the pool is zero: there is nothing to whiten by")
        self._roots = [_inverse_root(moment / moments.count, damping) for moment in moments.moments]
        self._sizes = moments.block_sizes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Whitened rows of length one; zero rows stay zero.

        Args:
            rows: Gradients, float64 of shape (m, d).
        """
        scaled = _unit(rows)
        parts = torch.split(scaled, self._sizes, dim=1)
        roots = (root.to(rows.device) for root in self._roots)
        return _unit(torch.cat([part @ root for part, root in zip(parts, roots, strict=True)], dim=1))


def whiten(
    gradients: Gradients,
    targets: Sequence[Gradients] = (),
    *,
    block_sizes: Sequence[int],
    damping: float = 0.1,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Whiten a pool and the target rows that go with it, by the second moments of the pool.

    Args:
        gradients: Gradients of the pool, shape (n, d), any real dtype.
        targets: Gradients of target rows by the same proxy, shape (m, d) each.
        block_sizes: Numbers that each layer has in a gradient, in their order; they add up to d.
        damping: Share of the mean eigenvalue of a block that is added to each of its eigenvalues, > 0.

    Returns:
        The pool and the targets, float64 of the same shapes, every row of length one or zero.

    Raises:
        ConfigError: A damping that is not above 0, or blocks that do not fit the gradients.
        PoolError: Targets of another dimension, or a pool of zeros.
    """
    if not damping > 0.0:
        raise ConfigError(f"damping must be above 0, not {damping}", pointer="#/damping")
    candidates = GradientMatrix(gradients)
    others = [GradientMatrix(rows) for rows in targets]
    for number, rows in enumerate(others):
        if rows.dimension != candidates.dimension:
            raise PoolError(
                f"target {number} has {rows.dimension} features, the pool {candidates.dimension}",
                pointer=f"#/targets/{number}",
            )
    transform = Whitening(second_moments(candidates, block_sizes), damping)
    return _whitened(candidates, transform), [_whitened(rows, transform) for rows in others]


def _whitened(candidates: GradientMatrix, transform: Whitening) -> torch.Tensor:
    result = torch.empty(candidates.size, candidates.dimension, dtype=torch.float64, device=candidates.device)
    for start, block in candidates.blocks():
        result[start : start + len(block)] = transform(block)
    return result


def _inverse_root(moment: torch.Tensor, damping: float) -> torch.Tensor:
    """(C + damping tr(C) / p I)^(-1/2); zero where C is."""
    mean = float(moment.diagonal().mean())
    if mean <= 0.0:
        return torch.zeros_like(moment)
    values, vectors = torch.linalg.eigh(moment)
    # Rounding makes an eigenvalue of a singular C slightly negative.
    root: torch.Tensor = (vectors * (values.clamp(min=0.0) + damping * mean).rsqrt()) @ vectors.T
    return root


def _unit(rows: torch.Tensor) -> torch.Tensor:
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return torch.where(lengths > 0.0, rows / lengths.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _check_blocks(block_sizes: Sequence[int], dimension: int) -> None:
    """Refuse blocks that are no cut of the features.

    Raises:
        ConfigError: Blocks that are empty, too large or do not add up.
    """
    if not block_sizes or min(block_sizes) < 1 or sum(block_sizes) != dimension:
        raise ConfigError(
            f"block_sizes must be positive and add up to the {dimension} features, not to {sum(block_sizes)}",
            pointer="#/block_sizes",
        )
    if max(block_sizes) > LARGEST_BLOCK:
        raise ConfigError(
            f"a block of {max(block_sizes)} numbers is too large to whiten, {LARGEST_BLOCK} is the most: "
            "use a smaller sketch_dim",
            pointer="#/block_sizes",
        )
