"""Exact log-determinant information: utility and marginal gains in float64, in the smaller of the two spaces."""

from __future__ import annotations

import torch


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


def log_determinant(rows: torch.Tensor, alpha: float) -> float:
    """Utility U(S) = logdet(I + alpha F_S), nats.

    Args:
        rows: Gradients of the set, float64 of shape (m, d).
        alpha: Fisher scale.
    """
    if len(rows) == 0:
        return 0.0
    factor = torch.linalg.cholesky(capacitance(rows, alpha))
    return float(2.0 * factor.diagonal().log().sum())
