"""Selection in the space that the target rows span.

What a row adds outside that space is of no use to the targets. Inside it a row has as many numbers as there are
independent target rows, so that one pass over the pool is nearly all the work. Relevance is the same as in all
features; gains count what is new within the span.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.methods import SideData

RANK = 1e-10
"""Singular values below this share of the largest are rounding."""


def in_span(candidates: GradientMatrix, side: SideData) -> tuple[GradientMatrix, SideData]:
    """The pool, the target rows and the samples already owned, in coordinates of the span of the target rows.

    Args:
        candidates: The pool.
        side: The targets and what else is known; only gradients are changed.

    Returns:
        A pool of shape (n, r) with r the rank of the target rows, and the others likewise.
    """
    basis = span_basis(torch.cat(side.targets))
    rows = candidates.times(basis)
    given = None if side.given is None else side.given @ basis
    matrix = GradientMatrix(rows)
    matrix.tie = candidates.tie
    return matrix, replace(side, targets=tuple(rows @ basis for rows in side.targets), given=given)


def span_basis(rows: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the space that rows span, float64 of shape (d, r).

    Args:
        rows: float64 of shape (m, d), not all zero.
    """
    # rows^T = Q R, and the decomposition of R, which is small, gives that of the rows.
    orthogonal, triangle = torch.linalg.qr(rows.T)
    vectors, values, _ = torch.linalg.svd(triangle, full_matrices=False)
    basis: torch.Tensor = (orthogonal @ vectors[:, values > RANK * values[0]]).contiguous()
    return basis
