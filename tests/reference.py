"""The slow, obvious twin of every fast path: loops, dense matrices, float64. The oracle of the tests.

Nothing here imports from the package under test except plain types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def one_at_a_time_gradients(
    model: Any, examples: Sequence[Any], weights: Sequence[torch.Tensor], *, mean: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact gradient and loss of each example by plain autograd: one forward and one backward pass each.

    Args:
        model: A causal language model in evaluation mode; all its weights become trainable.
        examples: Objects with ``input_ids`` and ``labels``.
        weights: Which of its weights to measure, in the order of the result.
        mean: Mean over the learned tokens, or their sum.

    Returns:
        Gradients of shape (n, d) and losses of shape (n,), in the type of the model.
    """
    model.requires_grad_(True)
    rows, losses = [], []
    for example in examples:
        model.zero_grad(set_to_none=True)
        logits = model(input_ids=torch.tensor([example.input_ids]), use_cache=False).logits[0]
        total = logits.sum() * 0.0
        count = 0
        for position in range(1, len(example.labels)):
            label = example.labels[position]
            if label == -100:
                continue
            scores = logits[position - 1]
            total = total - (scores[label] - torch.log(torch.exp(scores - scores.max()).sum()) - scores.max())
            count += 1
        loss = total / count if mean and count else total
        loss.backward()
        rows.append(
            torch.cat([torch.zeros(w.numel(), dtype=w.dtype) if w.grad is None else w.grad.flatten() for w in weights])
        )
        losses.append(loss.detach())
    model.zero_grad(set_to_none=True)
    return torch.stack(rows), torch.stack(losses)
