"""The ways to gradients that ``benchmarks.gradients`` compares: models, rows, and one function for each contender."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from spice_select.config import (
    Budget,
    GradientConfig,
    PeriodicSchedule,
    RunConfig,
    SelectionConfig,
    WindowsScope,
)
from spice_select.gradients.batching import collate, plan_batches
from spice_select.gradients.forward import BatchPass
from spice_select.gradients.hooks import GradientHooks
from spice_select.gradients.per_sample import batch_tokens_on, measure
from spice_select.gradients.targets import find_targets
from spice_select.models.batch_memory import LOGIT_BYTES
from spice_select.models.frozen import frozen
from spice_select.records.tokenize import IGNORED, Example
from spice_select.storage.shards import GradientShard, write_shard
from spice_select.training.periodic import select_periodically
from spice_select.training.warmup import tuning_type

SIZES: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 10, "vocab_size": 8192},
    "wide-vocabulary": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 10, "vocab_size": 49152},
    "large": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "vocab_size": 151936},
}
"""``small``: 9.5 million weights. ``wide-vocabulary``: the same blocks under a vocabulary of the size that real proxy
models have. ``large``: the shape of Qwen2.5-0.5B, 494 million."""

CONTEXT = 32768
"""Tokens that each model takes, as many as Qwen2.5-0.5B: a peer may fill its batches up to it."""

CONTENDERS = ("plain", "model", "ours", "ours-packed", "ours-lora", "ours-periodic", "one-at-a-time", "vmap")
STREAMED = "ours-streamed"
SHARD_ROWS = 1024
SHORT = 16
"""Longest row where only the memory for many rows is measured: batches are as full, and the run ends within minutes."""

WINDOW_ROWS = 16
"""Rows of a window of the periodic schedule; a tenth of each is chosen, and each window but the last ends in a step."""


def build(size: str, device: str, dtype: torch.dtype) -> Any:
    """The model, with random weights from a fixed seed."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": SIZES[size]["hidden_size"] // 64, "num_key_value_heads": 2}
    settings: Any = {**SIZES[size], **heads, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True}
    return Qwen2ForCausalLM(Qwen2Config(**settings)).to(device=device, dtype=dtype).eval()


def draw_rows(count: int, vocabulary: int, *, longest: int = 1024, seed: int = 0) -> list[Example]:
    """Rows as long as those of an instruction set (median 180 tokens, at most 1024), 60 % of each a response."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        length = min(longest, max(16, round(draw.lognormvariate(5.2, 0.6))))
        ids = [draw.randrange(vocabulary) for _ in range(length)]
        prompt = int(0.4 * length)
        rows.append(Example(ids, [IGNORED] * prompt + ids[prompt:]))
    return rows


def contender(name: str, model: Any, rows: list[Example], config: GradientConfig) -> Callable[[], object]:
    """What to run and time."""
    if name == "ours":
        return lambda: measure(model, rows, config)
    if name == "ours-lora":
        return lambda: measure(model, rows, config.model_copy(update={"targets": "lora"}))
    if name == "ours-packed":
        return lambda: measure(model, rows, config, packed=True)
    ways = {
        "plain": _plain,
        "model": _model,
        "ours-periodic": _periodic,
        "one-at-a-time": _one_at_a_time,
        "vmap": _vmap,
    }
    return ways[name](model, rows, config)


def _plain(model: Any, rows: list[Example], config: GradientConfig) -> Callable[[], object]:
    """Forward and backward of the same batches with every weight trainable: what a training step costs."""

    def run() -> None:
        model.requires_grad_(True)
        for batch in plan_batches([len(row.input_ids) for row in rows], config.batch_tokens):
            padded = collate([rows[i] for i in batch])
            labels = torch.full_like(padded.targets, IGNORED)
            labels[:, 1:] = padded.targets[:, :-1]
            device = model.device
            model(input_ids=padded.input_ids.to(device), labels=labels.to(device), use_cache=False).loss.backward()
            model.zero_grad(set_to_none=True)

    return run


class _Unrecorded(GradientHooks):
    """A recorder that records nothing, so that the model alone is timed."""

    def __enter__(self) -> _Unrecorded:
        return self

    @contextmanager
    def batch(self, rows: int, length: int, places: torch.Tensor | None = None) -> Generator[torch.Tensor]:
        del length, places
        yield torch.zeros((rows, 0))


def _model(model: Any, rows: list[Example], config: GradientConfig) -> Callable[[], object]:
    """The frozen model alone: forward, loss and backward through the labelled positions, nothing kept of it."""
    targets = find_targets(model, config)
    plan = plan_batches([len(row.input_ids) for row in rows], batch_tokens_on(model.device, targets, config))

    def run() -> None:
        with torch.enable_grad(), frozen(model), _Unrecorded(model, targets) as recorder:
            handle = model.get_input_embeddings().register_forward_hook(lambda _m, _a, out: out.requires_grad_())
            forward = BatchPass(model, config, recorder, LOGIT_BYTES)
            for batch in plan:
                forward(collate([rows[i] for i in batch]))
            handle.remove()

    return run


def _one_at_a_time(model: Any, rows: list[Example], config: GradientConfig) -> Callable[[], object]:
    """The way of the paper's code: adapters of rank 16, one sample at a time, the gradient copied out unprojected."""
    names = [target.name for target in find_targets(model, config)]
    settings = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=names)
    twin = Qwen2ForCausalLM(model.config).to(device=model.device, dtype=model.dtype).eval()
    twin.load_state_dict(model.state_dict())
    adapted = get_peft_model(twin, settings, autocast_adapter_dtype=False)
    weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]

    def run() -> None:
        for row in rows:
            adapted.zero_grad(set_to_none=True)
            ids, labels = (torch.tensor([part], device=model.device) for part in (row.input_ids, row.labels))
            adapted(input_ids=ids, labels=labels, use_cache=False).loss.backward()
            torch.cat([weight.grad.flatten() for weight in weights]).float().cpu()

    return run


def _vmap(model: Any, rows: list[Example], config: GradientConfig) -> Callable[[], object]:
    """Per-sample gradients by `torch.func.vmap` over `grad`, at most eight at a time, then the same sketch of each."""
    targets = find_targets(model, config)
    chosen = {f"{target.name}.weight" for target in targets}
    weights = {name: p.detach() for name, p in model.named_parameters() if name in chosen}

    def loss(given: dict[str, torch.Tensor], ids: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> Any:
        arguments = {"input_ids": ids[None], "attention_mask": mask, "use_cache": False}
        logits = torch.func.functional_call(model, given, (), arguments).logits[0].float()
        return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, None))

    def sketched(found: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = []
        for target in targets:
            value = found[f"{target.name}.weight"].detach()
            value = value if target.inputs is None else value @ target.inputs.T
            value = value if target.outputs is None else target.outputs @ value
            parts.append(value.flatten(1) * target.scale)
        features = torch.cat(parts, dim=1).float()
        return features / features.norm(dim=1, keepdim=True).clamp(min=1e-30)

    def run() -> torch.Tensor:
        features = torch.zeros((len(rows), targets[-1].start + targets[-1].size))
        for batch in plan_batches([len(row.input_ids) for row in rows], config.batch_tokens):
            for start in range(0, len(batch), 8):
                these = batch[start : start + 8]
                padded = collate([rows[i] for i in these])
                length = padded.input_ids.shape[1]
                # A mask made beforehand: transformers looks into masks, which vmap does not allow.
                causal = torch.ones(length, length, dtype=torch.bool, device=model.device).tril()[None, None]
                found = gradients(weights, padded.input_ids.to(model.device), padded.targets.to(model.device), causal)
                features[these] = sketched(found).cpu()
        return features

    return run


def _periodic(model: Any, rows: list[Example], config: GradientConfig) -> Callable[[], object]:
    """The paper's loop over the same rows: gradients of a window, a choice, a step of adapters on that, next window."""
    twin = Qwen2ForCausalLM(model.config).to(device=model.device, dtype=tuning_type(config)).eval()
    twin.load_state_dict(model.state_dict())
    settings = RunConfig(
        gradients=config,
        selection=SelectionConfig(budget=Budget(fraction=0.1), scope=WindowsScope(kind="windows", size=WINDOW_ROWS)),
        schedule=PeriodicSchedule(kind="periodic", steps_every=1),
    )
    return lambda: select_periodically(twin, rows, settings)


def streamed(model: Any, count: int, config: GradientConfig) -> Callable[[], object]:
    """Ours as a run does it: shard by shard, its rows brought in, measured, written to the disk and let go."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, count, SHARD_ROWS):
                rows = draw_rows(min(SHARD_ROWS, count - start), model.config.vocab_size, longest=SHORT, seed=start)
                found = measure(model, rows, config)
                shard = GradientShard(
                    features=found.features.numpy(),
                    rows=torch.arange(start, start + len(rows)).numpy(),
                    losses=found.losses.numpy(),
                    tokens=found.tokens.numpy(),
                    label_tokens=found.label_tokens.numpy(),
                    excluded=[],
                    truncated=[],
                    header={"fingerprint": "benchmark"},
                )
                write_shard(Path(folder) / str(start), shard)

    return run
