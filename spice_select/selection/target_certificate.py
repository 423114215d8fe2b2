"""What can be proven of a selection by relevance to targets: how far its objective is from the best one at most.

F(S) = sum of c_a(x) over the picks x and their tasks a, + eta U(S), with c_a(x) = w g . m_a / |m_a| - lambda conflict
- what x pays for protected sets.
U is monotone and submodular, so for any other set B, U(B) <= U(S) + sum of Delta_x(S) over B without S. Hence, with as
many rows for each task as S has,

    F(B) <= eta U(S) + sum over the tasks of the k_a largest h_a(x)

where h_a(x) = c_a(x) + eta Delta_x(S), and Delta_x(S) is 0 for the members of S.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spice_select.config import SelectionConfig
from spice_select.selection.conflict import conflict
from spice_select.selection.gradient_matrix import GradientMatrix


def relevance_bound(
    candidates: GradientMatrix,
    means: torch.Tensor,
    config: SelectionConfig,
    picks: Sequence[int],
    tasks: Sequence[int],
    utility: float,
    marginals: torch.Tensor,
    charges: torch.Tensor | None = None,
) -> tuple[float, float]:
    """The objective of rule ``relevance``, and what no set with as many rows for each task exceeds.

    Args:
        candidates: The pool.
        means: Mean gradient of each target's rows, float64 of shape (tasks, d).
        config: Settings of the run.
        picks: Rows of S.
        tasks: The target that each serves.
        utility: U(S), nats.
        marginals: Upper bounds on Delta_x(S) of every row, nats, float64 of shape (n,).
        charges: What every row pays, float64 of shape (n,); None for nothing.

    Returns:
        F(S) and the bound.
    """
    penalty = config.conflict_penalty if config.method == "spice" else 0.0
    rows, served = torch.tensor(picks, dtype=torch.int64), torch.tensor(tasks, dtype=torch.int64)
    products = torch.cat([block @ means.T for _, block in candidates.blocks()]).T.cpu()
    squares = candidates.squared_norms.cpu()
    value = bound = config.information_weight * utility
    gains = config.information_weight * marginals.index_fill(0, rows, 0.0)
    for task, (product, mean) in enumerate(zip(products, means, strict=True)):
        norm = float(mean.norm())
        fixed = config.relevance_weight * product / norm - penalty * conflict(product, squares, norm)
        fixed = fixed if charges is None else fixed - charges
        value += float(fixed[rows[served == task]].sum())
        bound += float((fixed + gains).topk(int((served == task).sum())).values.sum())
    return value, max(value, bound)
