"""Optimiser steps on a model: which rows a step holds, and the step itself.

Which rows a step holds is fixed by their lengths, the schedule and the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from spice_select.errors import Stopped
from spice_select.gradients.batching import collate, plan_batches
from spice_select.gradients.forward import checked_head
from spice_select.gradients.loss import VocabularyHead
from spice_select.records.tokenize import IGNORED, Example
from spice_select.selection.baselines import random_order

RISE = 0.1
"""Share of the steps over which the learning rate rises."""


class StepSettings(Protocol):
    """What a step needs to know."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of AdamW."""

    @property
    def weight_decay(self) -> float:
        """Weight decay of AdamW."""

    @property
    def clip(self) -> float:
        """Longest gradient of a step."""

    @property
    def micro_tokens(self) -> int:
        """Most padded tokens that go through the model together."""


@dataclass(frozen=True)
class Schedule:
    """How long a training lasts.

    Attributes:
        steps: Optimiser steps.
        match: What a step holds.
        rows: Rows in a step, for ``match="steps"``.
        tokens: Tokens in a step on average, for ``match="tokens"``.
    """

    steps: int
    match: Literal["steps", "tokens"]
    rows: int
    tokens: float


@dataclass(frozen=True)
class Spent:
    """What a training cost.

    Attributes:
        steps: Optimiser steps taken.
        tokens: Tokens that went through the model, without padding.
        learned_tokens: Tokens among them that were learned.
        last_loss: Mean loss of the learned tokens over the last tenth of the steps, nats.
        halvings: How often what goes through the model together was halved for lack of memory.
    """

    steps: int
    tokens: int
    learned_tokens: int
    last_loss: float
    halvings: int = 0


def steps_of(lengths: Sequence[int], schedule: Schedule, seed: int) -> Iterator[list[int]]:
    """Rows of every step: one shuffled pass after the other, cut into steps.

    With ``match="tokens"`` a step ends with the row that brings the tokens so far closest to what they should be, so
    that two trainings differ by half a row at the end however long they last. A step has a row at least.

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


class Tuner:
    """AdamW on some weights of a model, in place.

    Args:
        model: A causal language model of transformers.
        weights: Which of its weights to train.
        settings: Learning rate, decay, clipping, size of what goes through together.

    Attributes:
        optimizer: The optimiser; its learning rate may be changed between steps.
        halvings: How often what goes through together was halved for lack of memory. It stays halved, and sums in
            another order have other last bits.
    """

    def __init__(self, model: Any, weights: Sequence[nn.Parameter], settings: StepSettings) -> None:
        with torch.no_grad():
            self._head = checked_head(model)
        self._model, self._weights, self._settings = model, list(weights), settings
        self._micro_tokens, self.halvings = settings.micro_tokens, 0
        self.optimizer = torch.optim.AdamW(self._weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def step(self, examples: Sequence[Example]) -> float:
        """One step on the mean loss of the learned tokens of these rows.

        Args:
            examples: The rows, none empty.

        Returns:
            That loss before the step, nats.

        Raises:
            OutOfMemoryError: A single row does not fit the device.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _gradient()
        total = self._gradient(examples)
        while total is None:
            # A backward pass that broke off has left part of a gradient: all of it is taken again, in smaller pieces.
            self.halvings += 1
            self._micro_tokens //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            total = self._gradient(examples)
        nn.utils.clip_grad_norm_(self._weights, self._settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _gradient(self, examples: Sequence[Example]) -> float | None:
        """Leave the gradient of the mean loss on the weights; the loss, or None where the memory was not enough.

        Raises:
            OutOfMemoryError: A single row does not fit the device.
        """
        self.optimizer.zero_grad(set_to_none=True)
        lengths = [len(example.input_ids) for example in examples]
        here = sum(learned_tokens(example) for example in examples)
        total = 0.0
        for part in plan_batches(lengths, self._micro_tokens):
            try:
                losses, _ = token_losses(self._model, self._head, [examples[place] for place in part])
                loss = losses.sum() / max(1, here)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                return None
        return total


@contextmanager
def training_mode(model: Any, seed: int) -> Generator[None]:
    """A model with its dropout on, where it has any, drawn from a seed; the global generators stay as they are.

    Args:
        model: Whose ``training`` flags are set and set back.
        seed: Seed of dropout.

    Yields:
        Nothing.
    """
    modes = {module: module.training for module in model.modules()}
    device = model.get_input_embeddings().weight.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.train()
        try:
            yield
        finally:
            for module, flag in modes.items():
                module.training = flag


def train(
    model: Any,
    weights: Sequence[nn.Parameter],
    examples: Sequence[Example],
    schedule: Schedule,
    settings: StepSettings,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Spent:
    """Train a model in place with AdamW on the mean loss of the learned tokens of each step.

    The learning rate rises over the first tenth of the steps and falls to zero in a straight line.

    Args:
        model: A causal language model of transformers.
        weights: Which of its weights to train.
        examples: The rows, none empty.
        schedule: How long.
        settings: Learning rate, decay, clipping, size of what goes through together.
        seed: Seed of the order of the rows and of dropout, where the model has any.
        on_progress: Called as (steps taken, all steps) after each.
        should_stop: Asked before every step.

    Returns:
        What it cost.

    Raises:
        Stopped: ``should_stop`` said so.
    """
    lengths = [len(example.input_ids) for example in examples]
    tuner = Tuner(model, weights, settings)
    rate = torch.optim.lr_scheduler.LambdaLR(tuner.optimizer, lambda step: slope(step, schedule.steps))
    losses: list[float] = []
    tokens = learned = 0
    with training_mode(model, seed):
        for rows in steps_of(lengths, schedule, seed):
            if should_stop is not None and should_stop():
                raise Stopped("the training was stopped")
            losses.append(tuner.step([examples[row] for row in rows]))
            rate.step()
            tokens += sum(lengths[row] for row in rows)
            learned += sum(learned_tokens(examples[row]) for row in rows)
            if on_progress is not None:
                on_progress(len(losses), schedule.steps)
    last = losses[-max(1, len(losses) // 10) :]
    return Spent(len(losses), tokens, learned, sum(last) / len(last), tuner.halvings)


def token_losses(
    model: Any, head: VocabularyHead | None, examples: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each learned token, nats, times its weight, and where they are, bool of shape (b, t) on the CPU.

    Args:
        model: A causal language model of transformers.
        head: Its vocabulary head as ``checked_head`` found it.
        examples: The rows, none empty.
    """
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
    losses = nn.functional.cross_entropy(wide, batch.targets[where].to(device), reduction="none")
    if batch.weights is not None:
        losses = losses * batch.weights[where].to(device=device, dtype=losses.dtype)
    return losses, where


def learned_tokens(example: Example) -> int:
    """How many tokens of a row are learned: the first is predicted by nothing.

    Args:
        example: The row.
    """
    return len(example.labels) - 1 - example.labels[1:].count(IGNORED) if example.labels else 0


def slope(step: int, steps: int) -> float:
    """Factor of the learning rate at a step, counted from 0: up in a straight line, then down to zero.

    Args:
        step: The step.
        steps: All steps.
    """
    rising = max(1, round(RISE * steps))
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))
