"""One batch through the model and back: the losses of its samples, and their features by way of the recorder."""

from __future__ import annotations

from typing import Any

import torch

from spice_select.config import GradientConfig
from spice_select.errors import UnsupportedProxyError
from spice_select.gradients.batching import Batch, pack
from spice_select.gradients.hooks import GradientHooks
from spice_select.gradients.loss import VocabularyHead, cross_entropy_, head_gradient, head_of, same_logits
from spice_select.records.tokenize import IGNORED, Example


class BatchPass:
    """Runs batches through the model: losses and features of each."""

    def __init__(self, model: Any, config: GradientConfig, recorder: GradientHooks, logit_bytes: int) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.device = self.model.get_input_embeddings().weight.device
        self.mean = config.loss == "mean"
        self.beta = config.dpo_beta if config.objective == "dpo" else None
        self.recorder = recorder
        self.logit_bytes = logit_bytes
        with torch.no_grad():
            self.head = checked_head(self.model)

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses, float64 of shape (n,), and features of shape (n, d), both on the model's device.

        The DPO loss is log 2 for every pair at the reference policy: the loss of a pair here is that of its chosen
        answer, the mean over its tokens.

        Nothing here waits for the device: what decides a shape is worked out on the CPU.
        """
        where = (batch.targets != IGNORED).flatten()
        # Row i holds the places of sample i's tokens; one place behind the last stands for "no more".
        tokens = torch.arange(len(where)).view(batch.targets.shape) if batch.places is None else batch.places
        weights, reported = self._weights(batch, where, tokens)
        arguments: dict[str, Any] = {"input_ids": batch.input_ids.to(self.device), "use_cache": False}
        if batch.position_ids is not None:
            arguments["position_ids"] = batch.position_ids.to(self.device)
            if not batch.attention_mask.all():
                arguments["attention_mask"] = batch.attention_mask.to(self.device)
        learning = where.nonzero().squeeze(1)
        targets, token_weights, shares = (
            part[learning].to(self.device) for part in (batch.targets.flatten(), weights, reported)
        )
        learning, tokens = learning.to(self.device), tokens.to(self.device)
        rows, length = batch.targets.shape
        with self.recorder.batch(rows, length, None if batch.places is None else tokens) as features:
            if self.head is not None:
                states = self.model.base_model(**arguments).last_hidden_state.flatten(0, 1).index_select(0, learning)
                token_losses, gradient = head_gradient(
                    states.detach(), targets, token_weights, self.head, logit_bytes=self.logit_bytes
                )
            else:
                states = self.model(**arguments).logits.flatten(0, 1).index_select(0, learning)
                gradient = states.detach().to(torch.promote_types(states.dtype, torch.float32), copy=True)
                token_losses = cross_entropy_(gradient, targets, token_weights)
                gradient = gradient.to(states.dtype)
            if len(targets):
                torch.autograd.backward(states, gradient)
        # A padded matrix and a sum over rows, for an order of addition that never changes.
        table = torch.zeros(len(where) + 1, dtype=torch.float64, device=self.device)
        table.index_copy_(0, learning, token_losses.double() * shares)
        return table[tokens].sum(dim=1), features

    def _weights(self, batch: Batch, where: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight of each place in the gradient and in the loss that is reported, float64 of shape (b * t + 1,).

        The gradient of -log sigmoid(beta * (log-likelihood ratio of the chosen - that of the rejected answer)) at
        ratios of zero is beta / 2 times that of the summed cross-entropy of the chosen minus the rejected answer.
        """
        signs = torch.ones(len(where) + 1, dtype=torch.float64)
        if batch.weights is not None:
            signs[:-1] = batch.weights.flatten()
        if self.beta is None and not self.mean:
            return signs, signs
        counted = torch.cat([where, where.new_zeros(1)])
        if self.beta is not None:
            counted &= signs > 0
        means = torch.zeros_like(signs)
        share = 1.0 / counted[tokens].sum(dim=1).clamp(min=1).double()
        means[tokens] = share.unsqueeze(1).expand(tokens.shape)
        means *= signs
        return (means, means) if self.beta is None else (signs * (self.beta / 2), means.clamp(min=0))


def checked_head(model: Any) -> VocabularyHead | None:
    """The head, if hidden states through it give the model's own logits; None means: ask the model itself.

    Args:
        model: A causal language model of transformers, without a wrapper.

    Raises:
        UnsupportedProxyError: Two texts that differ in their last token only have unlike logits before it.
    """
    embeddings = model.get_input_embeddings().weight
    texts = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=embeddings.device) % embeddings.shape[0]
    theirs = model(input_ids=texts, use_cache=False).logits
    if not same_logits(theirs[0, :3], theirs[1, :3]):
        raise UnsupportedProxyError(f"{type(model).__name__} is not causal: it looks at later tokens")
    head = head_of(model)
    if head is None or model.base_model is model:
        return None
    hidden = model.base_model(input_ids=texts, use_cache=False).last_hidden_state.flatten(0, 1)
    if hidden.shape[-1] != head.weight.shape[1]:
        return None
    ours = head.logits(hidden).to(theirs.dtype)
    return head if same_logits(ours, theirs.flatten(0, 1)) else None


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Make sure that the model keeps texts apart that stand in one row, told by their positions alone.

    Args:
        model: A causal language model of transformers, without a wrapper.

    Raises:
        UnsupportedProxyError: It does not, with its present attention.
    """
    embeddings = model.get_input_embeddings().weight
    texts = [[0, 1, 2, 3, 4], [5, 6, 7], [1], [2, 3, 4, 5]]
    rows = [[token % embeddings.shape[0] for token in text] for text in texts]
    packed = pack([Example(row, row) for row in rows])
    place = packed.position_ids
    assert place is not None
    device = embeddings.device
    together = model(input_ids=packed.input_ids.to(device), position_ids=place.to(device), use_cache=False).logits[0]
    apart = [model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0] for row in rows]
    if not same_logits(together, torch.cat(apart)):
        attention = getattr(model.config, "_attn_implementation", None)
        raise UnsupportedProxyError(f"{type(model).__name__} with {attention} attention mixes texts packed in one row")
