"""Tune the model on some rows and take the losses of judging rows; adapters and optimiser in float32."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.quality.features import response_tokens
from spice_select.evaluation.training import losses_of
from spice_select.gradients.batching import plan_batches
from spice_select.gradients.forward import checked_head
from spice_select.gradients.loss import VocabularyHead
from spice_select.models.lora import adapted, whole
from spice_select.records.tokenize import Example
from spice_select.training.steps import Schedule, slope, steps_of, token_losses, training_mode

ALPHA_PER_RANK = 2.0


@dataclass(frozen=True)
class Training:
    """How an arm is trained.

    Attributes:
        steps: Optimiser steps.
        step_tokens: Response tokens of a step on average.
        rate: Highest learning rate.
        rank: Rank of the adapters; 0 trains every weight.
        seed: Seed of the adapters and of the order of the rows.
        micro_tokens: Most padded tokens that go through the model together.
    """

    steps: int
    step_tokens: float
    rate: float
    rank: int
    seed: int
    micro_tokens: int = 1024


def losses(model: Any, judging: Sequence[Example], micro_tokens: int) -> list[float]:
    """Mean loss of each row's response tokens, nats, to six digits.

    Args:
        model: A causal language model of transformers.
        judging: The rows.
        micro_tokens: Most padded tokens that go through the model together.
    """
    return [round(float(value), 6) for value in losses_of(model, judging, micro_tokens=micro_tokens)]


def trained(model: Any, rows: Sequence[Example], judging: Sequence[Example], how: Training) -> dict[str, Any]:
    """Train a model, take losses, and hand it back as it was.

    Args:
        model: A causal language model of transformers in the type it computes in.
        rows: What it is trained on.
        judging: Rows whose losses are taken afterwards.
        how: Steps, learning rate, seed.

    Returns:
        ``losses`` of the judging rows (nats), ``steps``, ``seconds`` of processor time, ``train_loss`` of the first and
        the last step.
    """
    began, wall = time.process_time(), time.monotonic()
    way = adapted(model, how.rank, ALPHA_PER_RANK * how.rank, how.seed) if how.rank else whole(model)
    lengths = [response_tokens(example) for example in rows]
    schedule = Schedule(how.steps, "tokens", 0, how.step_tokens)
    with torch.no_grad():
        head = checked_head(model)
    steps: list[float] = []
    with way as weights, training_mode(model, how.seed):
        masters = [nn.Parameter(weight.detach().float().clone()) for weight in weights.values()]
        optimizer = torch.optim.AdamW(masters, lr=how.rate, weight_decay=0.0)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: slope(step, how.steps))
        for places in steps_of(lengths, schedule, how.seed):
            steps.append(_gradient(model, head, [rows[place] for place in places], how.micro_tokens))
            for weight, master in zip(weights.values(), masters, strict=True):
                master.grad = weight.grad.float() if weight.grad is not None else None
                weight.grad = None
            nn.utils.clip_grad_norm_(masters, 1.0)
            optimizer.step()
            rate.step()
            with torch.no_grad():
                for weight, master in zip(weights.values(), masters, strict=True):
                    weight.copy_(master)
        judged = losses(model, judging, how.micro_tokens)
    return {
        "losses": judged,
        "steps": len(steps),
        "train_loss": [steps[0], steps[-1]],
        "seconds": round(time.process_time() - began, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
    }


def _gradient(model: Any, head: VocabularyHead | None, examples: Sequence[Example], micro_tokens: int) -> float:
    """Leave the gradient of the mean loss of the learned tokens on the weights; that loss in nats."""
    count = sum(response_tokens(example) for example in examples)
    total = 0.0
    for part in plan_batches([len(example.input_ids) for example in examples], micro_tokens):
        taken, _ = token_losses(model, head, [examples[place] for place in part])
        loss = taken.sum() / max(1, count)
        loss.backward()
        total += float(loss.detach())
    return total
