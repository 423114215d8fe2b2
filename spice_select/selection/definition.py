"""Gains and conflicts of given picks by their definition, in float64: what a fast engine has to agree with.

One factorisation gives every gain: in K = I + alpha G G^T of the picks in order, the square of pivot i of the Cholesky
factor is det(K_i) / det(K_(i-1)), the determinant of what was selected with pick i over that without it.
"""

from __future__ import annotations

import torch

from spice_select.config import SelectionConfig
from spice_select.errors import PoolError
from spice_select.selection.conflict import ETA

LARGEST = 20_000
"""Order of the largest matrix that is factorised: 3.2 GB."""
BLOCK = 1024


def gains_of(rows: torch.Tensor, given: torch.Tensor, config: SelectionConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Marginal gain of each pick over those before it.

    Args:
        rows: Gradients of the picks in order, float64 of shape (k, d).
        given: Gradients already owned, float64 of shape (m, d).
        config: Which information, and alpha.

    Returns:
        The gains in nats, and how far rounding may have moved each; float64 of shape (k,).

    Raises:
        PoolError: More picks and more numbers in a gradient than can be factorised.
    """
    alpha = config.alpha
    if config.information == "scalar":
        gains = torch.log1p(alpha * rows.square().sum(dim=1) / (1.0 + alpha))
        return gains, torch.zeros_like(gains)
    if config.information == "diagonal":
        return _diagonal(rows, given, alpha)
    members, dimension = torch.cat([given, rows]), rows.shape[1]
    if len(members) <= max(dimension, BLOCK):
        pivots = _pivots(members, torch.eye(dimension, dtype=torch.float64), alpha, whole=True)
    elif dimension > LARGEST:
        raise PoolError(f"{len(members)} gradients of {dimension} numbers are too many to check by the definition")
    else:
        fisher, parts = torch.eye(dimension, dtype=torch.float64), []
        for block in torch.split(members, BLOCK):
            parts.append(_pivots(block, fisher, alpha, whole=False))
            fisher = fisher + alpha * (block.T @ block)
        pivots = torch.cat(parts)
    gains = 2.0 * torch.log(pivots)
    doubt = 1e3 * torch.finfo(torch.float64).eps * (pivots.max() / pivots).square()
    return gains[len(given) :], doubt[len(given) :]


def _pivots(block: torch.Tensor, fisher: torch.Tensor, alpha: float, *, whole: bool) -> torch.Tensor:
    """Pivots of I + alpha B F^-1 B^T.

    Raises:
        PoolError: It is too large.
    """
    if len(block) > LARGEST:
        raise PoolError(f"{len(block)} gradients are too many to check by the definition")
    half = block if whole else torch.linalg.solve_triangular(torch.linalg.cholesky(fisher), block.T, upper=False).T
    gram = alpha * (half @ half.T)
    gram.diagonal().add_(1.0)
    factor: torch.Tensor = torch.linalg.cholesky(gram)
    return factor.diagonal()


def _diagonal(rows: torch.Tensor, given: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    denominator = 1.0 + alpha * given.pow(4).sum(dim=0)
    gains = torch.empty(len(rows), dtype=torch.float64)
    for place, row in enumerate(rows):
        gains[place] = torch.log1p(alpha * (row.square() / denominator).sum())
        denominator = denominator + alpha * row.pow(4)
    return gains, torch.zeros_like(gains)


def conflicts_of(rows: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """max(0, -cos(g, mean of those before)) of each pick, float64 of shape (k,).

    Args:
        rows: Gradients of the picks in order, float64 of shape (k, d).
        given: Gradients already owned, float64 of shape (m, d).
    """
    total, found = given.sum(dim=0), torch.zeros(len(rows), dtype=torch.float64)
    for place, row in enumerate(rows):
        count = len(given) + place
        if count:
            mean = total / count
            found[place] = max(0.0, -float(row @ mean) / (float(row.norm() * mean.norm()) + ETA))
        total = total + row
    return found
