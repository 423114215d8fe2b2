"""Embeddings of examples (RDS+): the mean of the last hidden states, in which later tokens weigh more.

The i-th of t tokens weighs i / (1 + ... + t). One forward pass; the losses come with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spice_select.config import GradientConfig
from spice_select.gradients.batching import Batch
from spice_select.gradients.forward import BatchPass


class EmbeddingPass(BatchPass):
    """Runs batches through the model: losses and embeddings of each.

    Args:
        model: A causal language model of transformers.
        config: What is measured.
        logit_bytes: Largest block of logits held at once, in bytes.
    """

    def __init__(self, model: Any, config: GradientConfig, logit_bytes: int) -> None:
        super().__init__(model, config, None, logit_bytes)
        with torch.no_grad():
            first = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
            self.width = int(self._states({"input_ids": first, "use_cache": False})[0].shape[-1])
        self.block_sizes = (self.width,)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses, float64 of shape (n,), and embeddings of shape (n, width), both on the model's device.

        Args:
            batch: Padded or packed.
        """
        read = self.read(batch)
        states, logits = self._states(read.arguments)
        states = states.flatten(0, 1)
        if logits is not None:
            logits = logits.flatten(0, 1)
        place = batch.position_ids
        if place is None:
            place = torch.arange(batch.input_ids.shape[1]).expand(batch.input_ids.shape)
        weights = torch.zeros(len(states) + 1, dtype=torch.float64)
        weights[:-1] = ((place + 1) * batch.attention_mask).flatten().double()
        weights = weights.to(self.device)[read.tokens]
        weights = weights / weights.sum(dim=1, keepdim=True)
        padded = torch.cat([states, states.new_zeros(1, states.shape[1])])
        wide = torch.promote_types(states.dtype, torch.float32)
        embedded = torch.einsum("nt,nth->nh", weights.to(wide), padded[read.tokens].to(wide))
        return self.losses(read, self._token_losses(states, logits, read.learning, read.targets)), embedded

    def _states(self, arguments: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The last hidden states, and the logits where they cannot be had from those."""
        if self.head is not None:
            return self.model.base_model(**arguments).last_hidden_state, None
        out = self.model(**arguments, output_hidden_states=True)
        return out.hidden_states[-1], out.logits

    def _token_losses(
        self, states: torch.Tensor, logits: torch.Tensor | None, learning: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of each position that is learned, nats, shape (m,)."""
        wide = torch.promote_types(states.dtype, torch.float32)
        losses = torch.empty(len(learning), dtype=wide, device=self.device)
        vocabulary = self.head.weight.shape[0] if self.head is not None else 1
        rows = max(1, self.logit_bytes // (vocabulary * wide.itemsize))
        for start in range(0, len(learning), rows):
            part = slice(start, start + rows)
            if self.head is not None:
                block = self.head.logits(states[learning[part]])
            else:
                assert logits is not None
                block = logits[learning[part]]
            losses[part] = nn.functional.cross_entropy(block.to(wide), targets[part], reduction="none")
        return losses
