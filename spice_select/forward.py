"""One batch through the model and back: the losses of its samples, and their features by way of the recorder."""

from __future__ import annotations

from typing import Any

import torch

from spice_select.batches import Batch
from spice_select.config import GradientConfig
from spice_select.errors import UnsupportedProxyError
from spice_select.examples import IGNORED
from spice_select.loss import VocabularyHead, cross_entropy_, head_gradient, head_of, same_logits
from spice_select.recorder import Recorder


class BatchPass:
    """Runs batches through the model: losses and features of each."""

    def __init__(self, model: Any, config: GradientConfig, recorder: Recorder, logit_bytes: int) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.device = self.model.get_input_embeddings().weight.device
        self.mean = config.loss == "mean"
        self.recorder = recorder
        self.logit_bytes = logit_bytes
        with torch.no_grad():
            self.head = checked_head(self.model)

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses, float64 of shape (b,), and features of shape (b, d), both on the model's device.

        Nothing here waits for the device: what decides a shape is worked out on the CPU.
        """
        where = batch.targets != IGNORED
        counts = where.sum(dim=1)
        weights = torch.ones(where.shape, dtype=torch.float64)
        if self.mean:
            weights /= counts.clamp(min=1).unsqueeze(1)
        arguments: dict[str, Any] = {"input_ids": batch.input_ids.to(self.device), "use_cache": False}
        if not batch.attention_mask[:, 0].all():
            arguments["attention_mask"] = batch.attention_mask.to(self.device)
            positions = batch.attention_mask.long().cumsum(dim=1) - 1
            arguments["position_ids"] = positions.clamp(min=0).to(self.device)
        places = where.flatten().nonzero().squeeze(1).to(self.device)
        targets, token_weights = batch.targets[where].to(self.device), weights[where].to(self.device)
        with self.recorder.batch(*where.shape) as features:
            if self.head is not None:
                states = self.model.base_model(**arguments).last_hidden_state.flatten(0, 1).index_select(0, places)
                token_losses, gradient = head_gradient(
                    states.detach(), targets, token_weights, self.head, logit_bytes=self.logit_bytes
                )
            else:
                states = self.model(**arguments).logits.flatten(0, 1).index_select(0, places)
                gradient = states.detach().to(torch.promote_types(states.dtype, torch.float32), copy=True)
                token_losses = cross_entropy_(gradient, targets, token_weights)
                gradient = gradient.to(states.dtype)
            if len(targets):
                torch.autograd.backward(states, gradient)
        # A padded matrix and a sum over rows, for an order of addition that never changes.
        table = torch.zeros(where.numel(), dtype=torch.float64, device=self.device)
        table.index_copy_(0, places, token_losses.double() * token_weights)
        return table.view(where.shape).sum(dim=1), features


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
