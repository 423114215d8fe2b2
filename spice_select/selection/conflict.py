"""How much a candidate's gradient opposes the mean gradient of what is already chosen (the paper's conflict)."""

from __future__ import annotations

import torch

ETA = 1e-8
"""The paper's eta in the denominator of the cosine, so that a zero gradient or a zero mean has no conflict."""


def conflict(products: torch.Tensor, squared_norms: torch.Tensor, mean_norm: float) -> torch.Tensor:
    """Conflict of each candidate with the chosen set: max(0, -cos(g_x, mean of S)), in [0, 1].

    Args:
        products: g_x . mean(S) of each candidate, float64 of shape (m,).
        squared_norms: |g_x|^2 of each candidate, float64 of shape (m,).
        mean_norm: |mean(S)|.

    Returns:
        float64 of shape (m,).
    """
    return torch.clamp(-products / (squared_norms.sqrt() * mean_norm + ETA), min=0.0).abs_()
