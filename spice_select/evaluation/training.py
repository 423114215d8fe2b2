"""One arm: how long every model trains, and the losses of held-out rows. There is no early stopping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from spice_select.evaluation.settings import TrainingConfig
from spice_select.gradients.batching import plan_batches
from spice_select.gradients.forward import checked_head
from spice_select.records.tokenize import Example
from spice_select.training.steps import Schedule, token_losses


def schedule_of(config: TrainingConfig, *, count: int, mean_tokens: float) -> Schedule:
    """The schedule of all arms.

    Args:
        config: Epochs and rows in a step.
        count: Rows in a choice, k.
        mean_tokens: Mean tokens of a row of the pool.
    """
    return Schedule(config.steps(count), config.match, config.batch_rows, config.batch_rows * mean_tokens)


@torch.no_grad()
def losses_of(model: Any, examples: Sequence[Example], *, micro_tokens: int = 4096) -> torch.Tensor:
    """Mean loss of the learned tokens of each example, nats, float64 of shape (n,); NaN where nothing is learned.

    Args:
        model: A causal language model of transformers; evaluated without dropout.
        examples: The rows, none empty.
        micro_tokens: Most padded tokens that go through the model together.
    """
    was_training = model.training
    model.eval()
    try:
        head = checked_head(model)
        result = torch.full((len(examples),), float("nan"), dtype=torch.float64)
        for part in plan_batches([len(example.input_ids) for example in examples], micro_tokens):
            losses, where = token_losses(model, head, [examples[place] for place in part])
            table = torch.zeros(where.shape, dtype=torch.float64)
            table[where] = losses.double().cpu()
            result[torch.tensor(part)] = table.sum(dim=1) / where.sum(dim=1)
    finally:
        model.train(was_training)
    return result
