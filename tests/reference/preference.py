"""The DPO loss written down: a policy, a copy of it as the reference, one pair at a time, plain autograd, float64.

Nothing here imports from the package under test.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import log_softmax, logsigmoid


def dpo_gradients(
    policy: Any, pairs: Sequence[Any], weights: Sequence[torch.Tensor], beta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradient of each pair's loss with respect to the weights, where the policy is the reference.

    Args:
        policy: A causal language model in evaluation mode, float64.
        pairs: Objects with ``input_ids``, ``labels`` and ``split``: the chosen sequence, then the rejected one.
        weights: Some of the weights of the policy.
        beta: Weight of the log-likelihood ratios.

    Returns:
        Gradients of shape (n, d), losses of shape (n,), and the mean cross-entropy of the chosen answers, shape (n,).
    """
    reference = copy.deepcopy(policy)
    for weight in weights:
        weight.requires_grad_()
    rows, losses, chosen_means = [], [], []
    for pair in pairs:
        ratios, means = [], []
        for part in (slice(None, pair.split), slice(pair.split, None)):
            ids, labels = pair.input_ids[part], pair.labels[part]
            learned = log_likelihoods(policy, ids, labels)
            with torch.no_grad():
                before = log_likelihoods(reference, ids, labels)
            ratios.append(learned.sum() - before.sum())
            means.append(-learned.detach().mean())
        loss = -logsigmoid(beta * (ratios[0] - ratios[1]))
        gradients = torch.autograd.grad(loss, list(weights))
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        losses.append(loss.detach())
        chosen_means.append(means[0])
    return torch.stack(rows), torch.stack(losses), torch.stack(chosen_means)


def log_likelihoods(model: Any, ids: Sequence[int], labels: Sequence[int]) -> torch.Tensor:
    """Log-likelihood of every labelled token given those before it."""
    logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, :-1]
    targets = torch.tensor(list(labels)[1:])
    there = targets != -100
    return log_softmax(logits[there], dim=1).gather(1, targets[there, None]).squeeze(1)
