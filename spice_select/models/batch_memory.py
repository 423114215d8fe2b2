"""What a batch takes in memory, and the largest batch that fits: sizes alone, so that a service without torch can tell.

One formula serves the estimate of a job, the batches of a run on this machine and those of a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spice_select.config import GradientConfig
from spice_select.models.architecture import ProxyShape

DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
VALUE_BYTES = 4
"""Gradients are float32 in memory."""
LOGIT_BYTES = 64 * 2**20
"""Largest block of logits held at once, in bytes."""
LOGIT_COPIES = 3
"""Logits, their float32 softmax and its gradient are there at once."""
MICRO_TOKENS = 4096
"""Most padded tokens that go through the model together while it is tuned; decides the order of additions."""
MOST_ON_CPU = 2**11
"""Most padded tokens of a batch on a processor, whatever the setting."""


@dataclass(frozen=True)
class BatchMemory:
    """What measuring takes, in bytes.

    Attributes:
        weights: Of the model.
        features: Gradients of the samples of a shard.
        logits: The largest blocks of logits.
        per_token: What every padded token of a batch adds.
    """

    weights: int
    features: int
    logits: int
    per_token: int

    @property
    def fixed(self) -> int:
        """What is there whatever the batch."""
        return self.weights + self.features + self.logits

    def of_batch(self, tokens: int) -> int:
        """What a batch of so many padded tokens takes with everything else.

        Args:
            tokens: Samples times the longest of them.
        """
        return self.fixed + self.per_token * tokens


def batch_memory(
    shape: ProxyShape,
    config: GradientConfig,
    rows: int,
    *,
    tuned: bool = False,
    whole_logits: bool = False,
) -> BatchMemory:
    """What measuring takes with a model.

    The activations of a layer count twice, once for the way back, which is more than they were measured to take.

    Args:
        shape: Sizes of the model.
        config: How it is measured.
        rows: Samples whose gradients are held at a time.
        tuned: Whether the model goes on being tuned between batches.
        whole_logits: Whether the logits of a batch are held at once: those of a head that is no plain layer are.
    """
    if config.measure == "words":
        return BatchMemory(weights=0, features=rows * shape.features(config) * VALUE_BYTES, logits=0, per_token=0)
    size = DTYPE_BYTES[config.dtype]
    weights = tuning_bytes(shape, config) if tuned else shape.parameters * size
    position = LOGIT_COPIES * max(size, VALUE_BYTES) * shape.vocabulary
    return BatchMemory(
        weights=weights,
        features=rows * shape.features(config) * VALUE_BYTES,
        logits=0 if whole_logits else max(LOGIT_COPIES * LOGIT_BYTES, position),
        per_token=2 * size * shape.blocks * sum(inputs + outputs for inputs, outputs in shape.layers)
        + (position if whole_logits else 0),
    )


def tuning_bytes(shape: ProxyShape, config: GradientConfig) -> int:
    """Weights in the type they are tuned in; for each that is tuned its gradient and AdamW's two moments as well.

    Args:
        shape: Sizes of the model.
        config: How it is tuned.
    """
    adapters = shape.blocks * sum(config.lora_rank * (inputs + outputs) for inputs, outputs in shape.layers)
    tuned, more = (shape.parameters, 0) if config.tuning.weights == "full" else (adapters, adapters)
    return _tuned_size(config) * (shape.parameters + more + 3 * tuned)


def tuning_peak_bytes(shape: ProxyShape, config: GradientConfig) -> int:
    """What a step takes with as many tokens together as may be: ``tuning_bytes``, activations, and all their logits.

    Args:
        shape: Sizes of the model.
        config: How it is tuned.
    """
    dtype: Literal["float64", "float32"] = "float64" if config.dtype == "float64" else "float32"
    stepping = batch_memory(shape, config.model_copy(update={"dtype": dtype}), 0, tuned=True, whole_logits=True)
    return stepping.of_batch(max(MICRO_TOKENS, config.max_length))


def _tuned_size(config: GradientConfig) -> int:
    return DTYPE_BYTES["float64" if config.dtype == "float64" else "float32"]
