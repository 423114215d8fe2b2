"""Per-sample gradients of a batch of examples, projected while they are computed.

Every weight is frozen, so no weight gradient is ever formed. A hook on each measured layer keeps the projected inputs
of the forward pass; when the gradient of the layer's output comes by in the backward pass it is projected too, and the
sum over tokens of their outer products is the sample's (sketched) weight gradient. Only positions that carry a label
go through the vocabulary head.

What is measured is the gradient of each sample's own loss: the mean (or sum) of the cross-entropy over its own response
tokens, each scaled by its weight where the example has weights (the mean still divides by the number of tokens). Of a
preference pair, two sequences that count for one sample, it is that of the DPO loss where the policy is the reference.
A batch's loss is the sum of its samples' losses, so no sample sees another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch

from spice_select.config import GradientConfig
from spice_select.errors import ConfigError, Stopped, UnsupportedProxyError
from spice_select.gradients.batching import Batch, collate, pack, plan_batches, plan_packed
from spice_select.gradients.embedding import EmbeddingPass
from spice_select.gradients.forward import BatchPass, check_packing
from spice_select.gradients.hooks import GradientHooks
from spice_select.gradients.targets import Target, find_targets
from spice_select.models.batch_memory import LOGIT_BYTES, MOST_ON_CPU
from spice_select.models.frozen import arithmetic, frozen
from spice_select.records.tokenize import Example

GradientProgress = Callable[[int, int, int], None]
"""Called after each batch with completed samples, all samples, and tokens so far."""


CPU_BATCH_NUMBERS = 2**19
"""Numbers in the widest activation of a batch on a CPU: what its caches hold is up to twice as fast."""


@dataclass(frozen=True)
class SampleGradients:
    """What was measured about n examples, in the order they were given.

    Attributes:
        features: float32 of shape (n, d): the (sketched) gradients; zero rows where there is none.
        losses: float64 of shape (n,): loss in nats, mean or sum over the response tokens as configured; of a pair the
            mean over the tokens of the chosen answer.
        label_tokens: int64 of shape (n,): tokens that were learned.
        tokens: int64 of shape (n,): all tokens, of a pair those of both sequences.
        norms: float64 of shape (n,): length of each gradient before it was scaled to one.
        finite: bool of shape (n,): False where loss or gradient was NaN or infinite.
        halvings: How often a batch was cut in two for lack of memory.
        block_sizes: Numbers of each measured weight in a gradient, in their order.
    """

    features: torch.Tensor
    losses: torch.Tensor
    label_tokens: torch.Tensor
    tokens: torch.Tensor
    norms: torch.Tensor
    finite: torch.Tensor
    halvings: int
    block_sizes: tuple[int, ...] = ()


def measure(
    model: Any,
    examples: Sequence[Example],
    config: GradientConfig,
    *,
    on_progress: GradientProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
    feature_dtype: torch.dtype = torch.float32,
    padding_side: Literal["left", "right"] = "right",
    packed: bool | None = None,
    logit_bytes: int = LOGIT_BYTES,
) -> SampleGradients:
    """Gradient (or embedding, as configured), loss and token counts of each example.

    With ``sketch_dim=None`` a row is every measured weight's exact gradient, ``weight.grad.flatten()`` of one layer
    after the other as in ``spice_select.gradients.targets``; otherwise at most ``sketch_dim`` numbers per layer.

    Args:
        model: A causal language model of transformers, plain or with PEFT adapters; left as it was found.
        examples: What to measure. One without labels has a zero gradient and loss 0.
        config: What is measured about each.
        on_progress: Called after each batch.
        should_stop: Asked before each batch.
        feature_dtype: Type of the features.
        padding_side: Where batches are padded; the result does not depend on it beyond rounding.
        packed: Whether samples share a row instead of being padded; the result does not depend on it beyond rounding.
            None packs where the attention works on each sample alone (flash attention) and the model allows it.
        logit_bytes: Largest block of logits held at once, in bytes.

    Returns:
        Tensors on the CPU, row i for example i.

    Raises:
        Stopped: ``should_stop`` said so.
        ConfigError: Examples that the model cannot take: too long, tokens it does not know, labels of another length.
        UnsupportedProxyError: A model whose gradients cannot be taken this way.
        OutOfMemoryError: One example alone does not fit the device.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    _check_examples(model, examples, config)
    lengths = [len(example.input_ids) for example in examples]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(frozen(model))
        stack.enter_context(arithmetic(model, _arithmetic_type(model, config)))
        targets = find_targets(model, config)
        forward: BatchPass
        if config.measure == "embedding":
            forward = EmbeddingPass(model, config, logit_bytes)
        else:
            forward = BatchPass(model, config, stack.enter_context(GradientHooks(model, targets)), logit_bytes)
        packed = _packs(forward.model, packed)
        n = len(examples)
        result = SampleGradients(
            features=torch.zeros((n, forward.width), dtype=feature_dtype),
            losses=torch.zeros(n, dtype=torch.float64),
            label_tokens=torch.tensor([example.num_learned for example in examples], dtype=torch.int64),
            tokens=torch.tensor(lengths, dtype=torch.int64),
            norms=torch.zeros(n, dtype=torch.float64),
            finite=torch.ones(n, dtype=torch.bool),
            halvings=0,
            block_sizes=forward.block_sizes,
        )
        completed = lengths.count(0)
        tokens = halvings = 0
        plan = plan_packed if packed else plan_batches
        most = batch_tokens_on(forward.device, targets, config)
        todo = deque((indices, packed) for indices in plan(lengths if packed else _padded(examples), most))
        under_way: deque[_Measured] = deque()
        while todo or under_way:
            if todo:
                if should_stop is not None and should_stop():
                    raise Stopped(f"stopped after {completed} of {n} samples")
                indices, packs = todo.popleft()
                chosen = [examples[i] for i in indices]
                batch = pack(chosen) if packs else collate(chosen, padding_side=padding_side)
                measured = _unless_out_of_memory(forward, batch)
                if measured is None:
                    halvings += 1
                    half = len(indices) // 2
                    todo.extendleft([(indices[half:], packs), (indices[:half], packs)])
                    continue
                under_way.append(_Measured(indices, *measured, unit=config.normalize == "unit", packed=packs))
                # A device works on this batch while the one before it is written down.
                if len(under_way) == 1 and todo and forward.device.type != "cpu":
                    continue
            arrived = under_way.popleft()
            indices = arrived.store(result)
            if arrived.packed and not result.finite[indices].all():
                # In one row a NaN reaches the neighbours; in rows of their own it costs only its sample.
                todo.appendleft((indices, False))
                continue
            completed += len(indices)
            tokens += sum(lengths[i] for i in indices)
            if on_progress is not None:
                on_progress(completed, n, tokens)
    return SampleGradients(**{**vars(result), "halvings": halvings})


def _arithmetic_type(model: Any, config: GradientConfig) -> torch.dtype:
    """The type to compute in; ``auto`` that nobody settled is the type that the weights were loaded in."""
    dtype: torch.dtype = next(model.parameters()).dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    return dtype


def batch_tokens_on(device: torch.device, targets: list[Target], config: GradientConfig) -> int:
    """Most padded tokens of a batch: as configured, on a CPU fewer, by the width of the model.

    Args:
        device: Where the model is.
        targets: The measured weights.
        config: Its ``batch_tokens`` is never exceeded.
    """
    if device.type != "cpu":
        return config.batch_tokens
    widest = max(size for target in targets for size in target.weight.shape)
    return min(config.batch_tokens, max(512, min(MOST_ON_CPU, CPU_BATCH_NUMBERS // widest)))


def _packs(model: Any, wanted: bool | None) -> bool:
    """Whether samples share a row: as wanted, else where attention over several costs no more than over each alone.

    Raises:
        UnsupportedProxyError: It is wanted, and the model mixes samples that share a row.
    """
    varlen = "flash" in str(getattr(model.config, "_attn_implementation", None))
    if wanted or (wanted is None and varlen):
        try:
            check_packing(model)
        except UnsupportedProxyError:
            if wanted:
                raise
            return False
        return True
    return False


class _Measured:
    """Losses and features of one batch on their way from the device to the result."""

    def __init__(
        self, indices: list[int], losses: torch.Tensor, features: torch.Tensor, *, unit: bool, packed: bool
    ) -> None:
        norms = features.double().norm(dim=1)
        finite = torch.isfinite(norms) & torch.isfinite(losses)
        if unit:
            features = features / torch.where(norms > 0, norms, 1.0).to(features.dtype).unsqueeze(1)
        features = torch.where(finite.unsqueeze(1), features, 0.0)
        self.indices, self.packed = indices, packed
        self.parts = [part.to("cpu", non_blocking=True) for part in (features, losses, norms, finite)]
        event: Any = torch.cuda.Event
        self.arrived = event() if features.is_cuda else None
        if self.arrived is not None:
            self.arrived.record()

    def store(self, result: SampleGradients) -> list[int]:
        """Put the rows where they belong, once they have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        rows = torch.tensor(self.indices)
        features, result.losses[rows], result.norms[rows], result.finite[rows] = self.parts
        result.features[rows] = features.to(dtype=result.features.dtype)
        return self.indices


def _unless_out_of_memory(forward: BatchPass, batch: Batch) -> tuple[torch.Tensor, torch.Tensor] | None:
    """What was measured, or None when the device has too little memory for a batch that can be cut in two.

    Raises:
        OutOfMemoryError: The batch is a single sample.
    """
    try:
        return forward(batch)
    except torch.OutOfMemoryError:
        if batch.samples == 1:
            raise
    # Out here the error has let go of the tensors it was holding on to.
    if forward.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _padded(examples: Sequence[Example]) -> list[int]:
    """Tokens of each example with those of the padding between the two sequences of a pair."""
    return [
        len(item.input_ids) if item.split is None else 2 * max(item.split, len(item.input_ids) - item.split)
        for item in examples
    ]


def _check_examples(model: Any, examples: Sequence[Example], config: GradientConfig) -> None:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    context = getattr(model.config, "max_position_embeddings", None)
    for index, example in enumerate(examples):
        ids, labels = example.input_ids, example.labels
        if len(ids) != len(labels):
            raise ConfigError(f"example {index} has {len(ids)} tokens and {len(labels)} labels")
        if example.weights is not None and len(example.weights) != len(labels):
            raise ConfigError(f"example {index} has {len(labels)} labels and {len(example.weights)} weights")
        if not ids:
            continue
        if (example.split is not None) != (config.objective == "dpo"):
            what = "a single sequence" if example.split is None else "a preference pair"
            raise ConfigError(f"example {index} is {what}, the objective is {config.objective}")
        longest = max(len(sequence.input_ids) for sequence in example.sequences())
        if context is not None and longest > context:
            raise ConfigError(f"example {index} has {longest} tokens, the model takes {context}")
        if min(ids) < 0 or max(ids) >= vocabulary or max(labels) >= vocabulary:
            raise ConfigError(f"example {index} holds a token outside the model's {vocabulary}")
