"""One arm: a model trained on some rows for a fixed number of steps, and the losses of held-out rows.

Which rows a step holds is fixed by their lengths, the schedule and the seed. There is no early stopping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spice_select.baselines import random_order
from spice_select.batches import collate, plan_batches
from spice_select.errors import Stopped
from spice_select.evaluation.settings import Match, TrainingConfig
from spice_select.examples import IGNORED, Example
from spice_select.forward import checked_head
from spice_select.loss import VocabularyHead

WARMUP = 0.1
"""Share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class Schedule:
    """How long every arm trains.

    Attributes:
        steps: Optimiser steps.
        match: What a step holds.
        rows: Rows in a step, for ``match="steps"``.
        tokens: Tokens in a step on average, for ``match="tokens"``.
    """

    steps: int
    match: Match
    rows: int
    tokens: float


@dataclass(frozen=True)
class Spent:
    """What an arm cost.

    Attributes:
        steps: Optimiser steps taken.
        tokens: Tokens that went through the model, without padding.
        learned_tokens: Tokens among them that were learned.
        last_loss: Mean loss of the learned tokens over the last tenth of the steps, nats.
    """

    steps: int
    tokens: int
    learned_tokens: int
    last_loss: float


def schedule_of(config: TrainingConfig, *, count: int, mean_tokens: float) -> Schedule:
    """The schedule of all arms.

    Args:
        config: Epochs and rows in a step.
        count: Rows in a choice, k.
        mean_tokens: Mean tokens of a row of the pool.
    """
    steps = max(1, round(config.epochs * count / config.batch_rows))
    return Schedule(steps, config.match, config.batch_rows, config.batch_rows * mean_tokens)


def steps_of(lengths: Sequence[int], schedule: Schedule, seed: int) -> Iterator[list[int]]:
    """Rows of every step: one shuffled pass after the other, cut into steps.

    With ``match="tokens"`` a step ends with the row that brings the tokens so far closest to what they should be, so
    that arms differ by half a row at the end however long they train. A step has a row at least.

    Args:
        lengths: Tokens of each row, all positive.
        schedule: How long.
        seed: Seed of the order.

    Yields:
        Indices into ``lengths``, one list for each step.
    """
    stream = _passes(len(lengths), seed)
    waiting = next(stream)
    done = 0
    for step in range(1, schedule.steps + 1):
        rows: list[int] = []
        while True:
            if schedule.match == "steps":
                full = len(rows) == schedule.rows
            else:
                full = done + lengths[waiting] / 2 > step * schedule.tokens
            if rows and full:
                break
            rows.append(waiting)
            done += lengths[waiting]
            waiting = next(stream)
        yield rows


def _passes(size: int, seed: int) -> Iterator[int]:
    turn = 0
    while True:
        yield from random_order(size, seed + 1_000_003 * turn).tolist()
        turn += 1


def train(
    model: Any,
    weights: Sequence[nn.Parameter],
    examples: Sequence[Example],
    schedule: Schedule,
    config: TrainingConfig,
    *,
    seed: int,
    should_stop: Callable[[], bool] | None = None,
) -> Spent:
    """Train a model in place with AdamW on the mean loss of the learned tokens of each step.

    Args:
        model: A causal language model of transformers.
        weights: Which of its weights to train.
        examples: The rows, none empty.
        schedule: How long.
        config: Learning rate, decay, clipping, size of what goes through together.
        seed: Seed of the order of the rows and of dropout, where the model has any.
        should_stop: Asked before every step.

    Returns:
        What it cost.

    Raises:
        Stopped: ``should_stop`` said so.
    """
    with torch.no_grad():
        head = checked_head(model)
    lengths = [len(example.input_ids) for example in examples]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _slope(step, schedule.steps))
    losses: list[float] = []
    tokens = learned = 0
    was_training = model.training
    with torch.random.fork_rng(devices=_devices(model)):
        torch.manual_seed(seed)
        model.train()
        try:
            for rows in steps_of(lengths, schedule, seed):
                if should_stop is not None and should_stop():
                    raise Stopped("the training was stopped")
                optimizer.zero_grad(set_to_none=True)
                here = sum(_learned(examples[row]) for row in rows)
                total = 0.0
                for part in plan_batches([lengths[row] for row in rows], config.micro_tokens):
                    token_losses, _ = _token_losses(model, head, [examples[rows[place]] for place in part])
                    loss = token_losses.sum() / max(1, here)
                    loss.backward()  # type: ignore[no-untyped-call]
                    total += float(loss.detach())
                nn.utils.clip_grad_norm_(weights, config.clip)
                optimizer.step()
                rate.step()
                losses.append(total)
                tokens += sum(lengths[row] for row in rows)
                learned += here
        finally:
            model.train(was_training)
    last = losses[-max(1, len(losses) // 10) :]
    return Spent(len(losses), tokens, learned, sum(last) / len(last))


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
            token_losses, where = _token_losses(model, head, [examples[place] for place in part])
            table = torch.zeros(where.shape, dtype=torch.float64)
            table[where] = token_losses.double().cpu()
            result[torch.tensor(part)] = table.sum(dim=1) / where.sum(dim=1)
    finally:
        model.train(was_training)
    return result


def _token_losses(
    model: Any, head: VocabularyHead | None, examples: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each learned token, nats, and where they are, bool of shape (b, t) on the CPU."""
    batch = collate(examples)  # padded on the right, which a causal model never looks at
    where = batch.targets != IGNORED
    device = model.get_input_embeddings().weight.device
    ids, there = batch.input_ids.to(device), where.to(device)
    if head is not None:
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[there]
        logits = head.logits(states)
    else:
        logits = model(input_ids=ids, use_cache=False).logits[there]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return nn.functional.cross_entropy(wide, batch.targets[where].to(device), reduction="none"), where


def _learned(example: Example) -> int:
    return len(example.labels) - 1 - example.labels[1:].count(IGNORED) if example.labels else 0


def _slope(step: int, steps: int) -> float:
    """Factor of the learning rate at a step, counted from 0: up in a straight line, then down to zero."""
    rising = max(1, round(WARMUP * steps))
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))


def _devices(model: Any) -> list[torch.device]:
    device = model.get_input_embeddings().weight.device
    return [device] if device.type == "cuda" else []
