"""Per-sample gradients against the other ways to get them: time as a ratio within one run, memory beyond the model.

    python -m benchmarks.gradients            a table, then one line of JSON
    python -m benchmarks.gradients --json     the line of JSON alone
    python -m benchmarks.gradients --device cuda --size large --rows 512 --dtype bfloat16

Every contender measures the same rows with the same weights. Contenders take turns, round by round, and a ratio is the
median over the rounds, so that a busy machine slows all of them. On a CPU ratios are of processor seconds, which other
processes disturb least, on a GPU of wall seconds. Memory is taken in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.machine import describe
from spice_select.batches import collate, plan_batches
from spice_select.config import GradientConfig
from spice_select.examples import IGNORED, Example
from spice_select.gradients import measure
from spice_select.targets import find_targets

SIZES: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 10, "vocab_size": 8192},
    "large": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "vocab_size": 151936},
}
"""``small``: 9.5 million weights. ``large``: the shape of Qwen2.5-0.5B, 494 million."""

CONTENDERS = ("plain", "ours", "ours-lora", "one-at-a-time", "vmap")


def build(size: str, device: str, dtype: torch.dtype) -> Any:
    """The model, with random weights from a fixed seed."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": SIZES[size]["hidden_size"] // 64, "num_key_value_heads": 2}
    settings: Any = {**SIZES[size], **heads, "max_position_embeddings": 2048, "tie_word_embeddings": True}
    return Qwen2ForCausalLM(Qwen2Config(**settings)).to(device=device, dtype=dtype).eval()


def draw_rows(count: int, vocabulary: int) -> list[Example]:
    """Rows as long as those of an instruction set (median 180 tokens, at most 1024), 60 % of each a response."""
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        length = min(1024, max(16, round(draw.lognormvariate(5.2, 0.6))))
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
    return {"plain": _plain, "one-at-a-time": _one_at_a_time, "vmap": _vmap}[name](model, rows, config)


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
    """Per-sample gradients of the same weights by `torch.func.vmap` over `grad`, in batches of at most eight."""
    chosen = {f"{target.name}.weight" for target in find_targets(model, config)}
    weights = {name: p.detach() for name, p in model.named_parameters() if name in chosen}

    def loss(given: dict[str, torch.Tensor], ids: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> Any:
        arguments = {"input_ids": ids[None], "attention_mask": mask, "use_cache": False}
        logits = torch.func.functional_call(model, given, (), arguments).logits[0].float()
        return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, None))

    def run() -> None:
        for batch in plan_batches([len(row.input_ids) for row in rows], config.batch_tokens):
            for start in range(0, len(batch), 8):
                padded = collate([rows[i] for i in batch[start : start + 8]])
                length = padded.input_ids.shape[1]
                # A mask made beforehand: transformers looks into masks, which vmap does not allow.
                causal = torch.ones(length, length, dtype=torch.bool, device=model.device).tril()[None, None]
                found = gradients(weights, padded.input_ids.to(model.device), padded.targets.to(model.device), causal)
                for value in found.values():
                    value.flatten(1).norm(dim=1).cpu()

    return run


def timed(run: Callable[[], object], device: str) -> float:
    """Seconds of one run: of the processor on a CPU, of the wall clock on a GPU."""
    if device == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_bytes(arguments: argparse.Namespace) -> int:
    """Most memory one contender took beyond the loaded model; for a process of its own."""
    model, rows, config = prepare(arguments)
    run = contender(arguments.one, model, rows, config)
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return int(torch.cuda.max_memory_allocated() - before)
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts again from here
    before = _kernel_bytes("VmRSS")
    run()
    return _kernel_bytes("VmHWM") - before


def _kernel_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not report {field}")


def prepare(arguments: argparse.Namespace) -> tuple[Any, list[Example], GradientConfig]:
    """Model, rows and settings of a run."""
    model = build(arguments.size, arguments.device, getattr(torch, arguments.dtype))
    rows = draw_rows(arguments.rows, SIZES[arguments.size]["vocab_size"])
    return model, rows, GradientConfig(dtype=arguments.dtype, batch_tokens=arguments.batch_tokens)


def peak_of(name: str, arguments: argparse.Namespace, rows: int) -> int | None:
    """Peak of a contender in bytes, from a process of its own; None where it does not get through."""
    given = [
        f"--{key.replace('_', '-')}={getattr(arguments, key)}" for key in ("device", "size", "dtype", "batch_tokens")
    ]
    command = [sys.executable, "-m", "benchmarks.gradients", f"--one={name}", f"--rows={rows}", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    model, rows, config = prepare(arguments)
    runs = {name: contender(name, model, rows, config) for name in arguments.contenders}
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run, arguments.device))
    tokens = sum(len(row.input_ids) for row in rows)
    table = {
        name: {
            "seconds": round(statistics.median(times), 3),
            "tokens_per_second": round(tokens / statistics.median(times)),
            "ours_to_this": round(
                statistics.median(mine / theirs for mine, theirs in zip(seconds["ours"], times, strict=True)), 3
            ),
            "peak_mib": None if (peak := peak_of(name, arguments, len(rows))) is None else round(peak / 2**20),
        }
        for name, times in seconds.items()
    }
    flat = {count: peak_of("ours", arguments, count) for count in arguments.memory_rows}
    return {
        "benchmark": "gradients",
        "model": {"size": arguments.size, "weights": sum(p.numel() for p in model.parameters())},
        "rows": len(rows),
        "tokens": tokens,
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seconds_of": "processor" if arguments.device == "cpu" else "wall clock",
        "dtype": arguments.dtype,
        "contenders": table,
        "peak_mib_by_rows": {str(count): round((peak or 0) / 2**20) for count, peak in flat.items()},
        "machine": describe(),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--size", default="small", choices=list(SIZES))
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--batch-tokens", type=int, help="default: 8192 on a GPU, on a CPU what ours takes for the small model"
    )
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--memory-rows", nargs="*", type=int, default=[48, 480])
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.batch_tokens = arguments.batch_tokens or (744 if arguments.device == "cpu" else 8192)
    if arguments.one:
        print(peak_bytes(arguments))
        return
    if "ours" not in arguments.contenders:
        parser.error("ours must be among the contenders: ratios are to it")
    result = compare(arguments)
    if not arguments.json:
        print(f"{'':16}{'seconds':>10}{'tokens/s':>12}{'ours/this':>12}{'peak MiB':>10}")
        for name, row in result["contenders"].items():
            peak = "-" if row["peak_mib"] is None else row["peak_mib"]
            print(f"{name:16}{row['seconds']:>10}{row['tokens_per_second']:>12}{row['ours_to_this']:>12}{peak:>10}")
        print(f"peak MiB of ours by rows: {result['peak_mib_by_rows']}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
