"""One batch through the model and back: the losses of its samples, and their features by way of the recorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from spice_select.config import GradientConfig
from spice_select.errors import UnsupportedProxyError
from spice_select.gradients.batching import Batch, pack
from spice_select.gradients.hooks import GradientHooks
from spice_select.gradients.loss import VocabularyHead, cross_entropy_, head_gradient, head_of, same_logits
from spice_select.records.tokenize import IGNORED, Example


@dataclass(frozen=True)
class BatchInputs:
    """What the model is given of a batch, and what it has to predict.

    Attributes:
        arguments: Of the model.
        learning: Positions that predict something, int64 of shape (m,), in the flattened batch.
        targets: Token that each of them has to predict, int64 of shape (m,).
        weights: Weight of each of them in the gradient of its sample, float64 of shape (m,).
        shares: Weight of each of them in the loss of its sample, float64 of shape (m,).
        tokens: Positions of the tokens of each sample, int64 of shape (n, longest); one behind the last for "no more".
    """

    arguments: dict[str, Any]
    learning: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    shares: torch.Tensor
    tokens: torch.Tensor


class BatchPass:
    """Runs batches through the model: losses and features of each."""

    def __init__(self, model: Any, config: GradientConfig, recorder: GradientHooks | None, logit_bytes: int) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.device = self.model.get_input_embeddings().weight.device
        self.mean = config.loss == "mean"
        self.beta = config.dpo_beta if config.objective == "dpo" else None
        self.recorder = recorder
        self.logit_bytes = logit_bytes
        with torch.no_grad():
            self.head = checked_head(self.model)
        if recorder is not None:
            self.width = recorder.width
            self.block_sizes = tuple(target.size for target in recorder.targets)

    def read(self, batch: Batch) -> BatchInputs:
        """What goes into the model and what is to come out.

        The DPO loss is log 2 for every pair at the reference policy: the loss of a pair here is that of its chosen
        answer, the mean over its tokens.

        Nothing here waits for the device: what decides a shape is worked out on the CPU.

        Args:
            batch: Padded or packed.
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
        return BatchInputs(arguments, learning.to(self.device), targets, token_weights, shares, tokens.to(self.device))

    def losses(self, read: BatchInputs, token_losses: torch.Tensor) -> torch.Tensor:
        """Loss of every sample of a batch, nats, float64 of shape (n,).

        A padded matrix and a sum over rows, for an order of addition that never changes.

        Args:
            read: What the batch was.
            token_losses: Cross-entropy of each position that is learned, nats, shape (m,).
        """
        size = read.arguments["input_ids"].numel() + 1
        table = torch.zeros(size, dtype=torch.float64, device=self.device)
        table.index_copy_(0, read.learning, token_losses.double() * read.shares)
        return table[read.tokens].sum(dim=1)

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses, float64 of shape (n,), and features of shape (n, d), both on the model's device.

        Args:
            batch: Padded or packed.
        """
        assert self.recorder is not None
        read = self.read(batch)
        targets, token_weights, tokens = read.targets, read.weights, read.tokens
        rows, length = batch.targets.shape
        with self.recorder.batch(rows, length, None if batch.places is None else tokens) as features:
            if self.head is not None:
                states = self.model.base_model(**read.arguments).last_hidden_state.flatten(0, 1)
                states = states.index_select(0, read.learning)
                token_losses, gradient = head_gradient(
                    states.detach(), targets, token_weights, self.head, logit_bytes=self.logit_bytes
                )
            else:
                states = self.model(**read.arguments).logits.flatten(0, 1).index_select(0, read.learning)
                gradient = states.detach().to(torch.promote_types(states.dtype, torch.float32), copy=True)
                token_losses = cross_entropy_(gradient, targets, token_weights)
                gradient = gradient.to(states.dtype)
            if len(targets):
                torch.autograd.backward(states, gradient)
        return self.losses(read, token_losses), features

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
