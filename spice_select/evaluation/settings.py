"""Settings of an evaluation: how it trains, with what it compares, what it must be able to see."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from spice_select.config import Model

Match = Literal["steps", "tokens"]
Control = Literal["random", "random_tokens", "random_length", "random_group", "stratified", "full"]
Planting = Literal["junk", "one_group"]


class TrainingConfig(Model):
    """How every arm is trained: the same start, the same number of optimiser steps, no early stopping."""

    tuning: Literal["full", "lora"] = "full"
    """Every weight, or low-rank adapters on the linear layers of the blocks."""
    match: Match = "tokens"
    """What a step holds: ``tokens`` gives every arm the same tokens and the same steps, ``steps`` the same rows and
    the same steps, so that an arm of longer rows sees more tokens."""
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3.0
    """Passes over a choice of rows of average length; with ``batch_rows`` it fixes the number of steps of every arm."""
    batch_rows: Annotated[int, Field(ge=1, le=2**20)] = 16
    """Rows in a step; for ``match="tokens"`` rows of the pool's average length."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    """Peak learning rate of AdamW; rises over the first tenth of the steps and falls to zero in a straight line."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight decay of AdamW."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Longest gradient of a step."""
    micro_tokens: Annotated[int, Field(ge=8, le=2**24)] = 2048
    """Most padded tokens that go through the model together; does not change what is learned but for rounding."""
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the adapters."""
    lora_alpha: Annotated[float, Field(gt=0, le=65536)] = 32.0
    """Scale of the adapters; they are multiplied by lora_alpha / lora_rank."""

    def steps(self, count: int) -> int:
        """Optimiser steps of every arm for a choice of so many rows."""
        return max(1, round(self.epochs * count / self.batch_rows))


class EvaluationConfig(Model):
    """What is compared, how often, and how sure the verdict has to be."""

    training: TrainingConfig = TrainingConfig()
    seeds: Annotated[int, Field(ge=2, le=100)] = 3
    """Times that every arm is trained: other draws, another order of the rows. Intervals need two at least."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """First seed."""
    controls: list[Control] = Field(
        default=["random", "random_tokens", "random_length", "random_group", "stratified", "full"]
    )
    """What the choice is compared with: as many rows at random; as many tokens at random; random rows with the
    choice's histogram of lengths; random rows with the choice's number of rows of each group; as many rows with the
    groups' shares of the pool; everything (for as many steps)."""
    plantings: list[Planting] = Field(default=["junk", "one_group"])
    """Arms that must lose: random rows with nonsense for responses, and rows of the largest group only. One that
    cannot be made (a single group) is left out."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of every interval."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for names in (self.controls, self.plantings):
            if len(set(names)) < len(names):
                raise ValueError("a control or planting is named twice")
        return self
