"""Cross-entropy over the vocabulary and its gradient, without ever holding all the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spice_select.models.batch_memory import LOGIT_BYTES


@dataclass(frozen=True)
class VocabularyHead:
    """The last layer of a language model: logits = cap * tanh(scale * (W h + b) / cap).

    Attributes:
        weight: W of shape (v, h).
        bias: b of shape (v,), or None.
        scale: Factor of the logits, or None for one.
        softcap: cap, or None where the logits are not squashed.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float | None = None
    softcap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states of shape (m, h) as the model would give them, of shape (m, v).

        Args:
            hidden: States after the last norm.
        """
        logits = nn.functional.linear(hidden, self.weight, self.bias)
        if self.scale is not None:
            logits *= self.scale
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits


def head_of(model: Any) -> VocabularyHead | None:
    """The vocabulary head of a model as its settings describe it, or None where it is no plain linear layer.

    Args:
        model: A causal language model. Whether the description is right is for the caller to check on real logits.
    """
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        return None
    config = model.config
    scale = getattr(config, "logit_scale", None)
    if getattr(config, "logits_scaling", None):
        scale = 1.0 / config.logits_scaling
    return VocabularyHead(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))


@torch.no_grad()
def head_gradient(
    hidden: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    head: VocabularyHead,
    *,
    logit_bytes: int = LOGIT_BYTES,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each position and the gradient of its weighted sum with respect to the hidden states.

    Args:
        hidden: States after the last norm, shape (m, h).
        targets: Token each of them has to predict, int64 of shape (m,).
        weights: Weight of each position in the loss, shape (m,).
        head: The vocabulary head.
        logit_bytes: Largest block of logits to hold, in bytes; at least one row is held.

    Returns:
        Losses in nats, shape (m,), float32 (float64 for float64 states), and the gradient, shaped and typed as
        ``hidden``.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    rows = max(1, logit_bytes // (head.weight.shape[0] * wide.itemsize))
    losses = torch.empty(len(hidden), dtype=wide, device=hidden.device)
    gradient = torch.empty_like(hidden)
    for start in range(0, len(hidden), rows):
        part = slice(start, start + rows)
        logits = head.logits(hidden[part]).to(wide)
        slope = None if head.softcap is None else 1 - (logits / head.softcap) ** 2
        losses[part] = cross_entropy_(logits, targets[part], weights[part])
        if slope is not None:
            logits *= slope
        torch.mm(logits.to(hidden.dtype), head.weight, out=gradient[part])
    return losses, gradient if head.scale is None else gradient.mul_(head.scale)


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row; the logits are overwritten by the gradient of the weighted sum.

    Args:
        logits: Shape (m, v), float32 or float64.
        targets: Shape (m,), int64.
        weights: Shape (m,).

    Returns:
        Losses in nats, shape (m,), in the type of the logits.
    """
    column = targets.unsqueeze(1)
    logits.sub_(logits.amax(dim=1, keepdim=True))
    chosen = logits.gather(1, column).squeeze(1)
    normaliser = logits.exp_().sum(dim=1)
    # weight * (softmax - one-hot), without another pass for the division
    weights = weights.to(dtype=logits.dtype)
    logits.mul_((weights / normaliser).unsqueeze(1))
    logits.scatter_add_(1, column, -weights.unsqueeze(1))
    return normaliser.log() - chosen


def same_logits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two ways to the same logits agree up to the rounding of their type; NaN agrees with NaN.

    Args:
        ours: Logits of the described head.
        theirs: Logits of the model itself.
    """
    if ours.shape != theirs.shape:
        return False
    # never finer than float32, to which models round their norms and softmaxes
    tolerance = max(torch.finfo(ours.dtype).eps, torch.finfo(torch.float32).eps) ** (2 / 3)
    size = float(theirs[theirs.isfinite()].abs().max()) if theirs.isfinite().any() else 1.0
    return torch.allclose(ours, theirs, rtol=0, atol=tolerance * max(size, 1.0), equal_nan=True)
