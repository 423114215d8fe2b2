"""Per-sample gradients against the other ways to get them: time as a ratio within one run, memory beyond the model.

    python -m benchmarks.gradients            a table, then one line of JSON
    python -m benchmarks.gradients --json     the line of JSON alone
    python -m benchmarks.gradients --device cuda --size large --rows 512 --bergson-python PYTHON
                                              every row on a GPU; PYTHON has bergson (see ``benchmarks._bergson``)

Every contender measures the same rows with the same weights. ``plain`` is what a training step costs; ``model`` is the
frozen model alone, forward and backward through the labelled positions: no engine of this kind can be faster than it;
``vmap`` ends in the same sketched features as ours, which is checked; ``ours-periodic`` is the paper's loop, which also
chooses from each window and takes a step on that. Contenders take turns, round by round, and a
ratio is the median over the rounds, so that a busy machine slows all of them. On a CPU ratios are of processor seconds,
which other processes disturb least, on a GPU of wall seconds. Memory is taken in a process of its own; ours also while
it streams ``--memory-rows`` short rows, shard by shard, to the disk. bfloat16 is timed where the processor has it,
bergson where a GPU and ``--bergson-python`` (an interpreter that has it) are; what could not be measured is null.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks._bergson import compare_with_bergson
from benchmarks._contenders import CONTENDERS, SIZES, STREAMED, build, contender, draw_rows, streamed
from benchmarks.machine import describe
from spice_select.config import GradientConfig
from spice_select.models.compute_type import claims_bfloat16
from spice_select.records.tokenize import Example

ON_A_GPU = "python -m benchmarks.gradients --device cuda --size large --rows 512 --bergson-python PYTHON"
"""Fills every row that wants a GPU."""


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
    one = arguments.one
    run = streamed(model, arguments.rows, config) if one == STREAMED else contender(one, model, rows, config)
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
    rows = [] if arguments.one == STREAMED else draw_rows(arguments.rows, SIZES[arguments.size]["vocab_size"])
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
    results = {name: run() for name, run in runs.items()}
    if "vmap" in runs:
        _check_same(results["ours"].features, results["vmap"], arguments.dtype)
    del results
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
    flat = {count: peak_of(STREAMED, arguments, count) for count in arguments.memory_rows}
    bfloat16 = _bfloat16(arguments, runs) if arguments.dtype == "float32" else None
    weights = sum(p.numel() for p in model.parameters())
    del model, runs, run
    if arguments.device == "cuda":
        torch.cuda.empty_cache()  # the peer fits its batches to the memory that it finds free
    return {
        "benchmark": "gradients",
        "model": {"size": arguments.size, "weights": weights},
        "rows": len(rows),
        "tokens": tokens,
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seconds_of": "processor" if arguments.device == "cpu" else "wall clock",
        "dtype": arguments.dtype,
        "contenders": table,
        "peak_mib_by_rows": {str(count): None if peak is None else round(peak / 2**20) for count, peak in flat.items()},
        "bfloat16": bfloat16,
        "bergson": compare_with_bergson(arguments.bergson_python) if arguments.device == "cuda" else None,
        "machine": describe(),
    }


def _check_same(ours: Any, theirs: Any, dtype: str) -> None:
    """Both ends must be the same features, up to the rounding of the type.

    Raises:
        RuntimeError: They are not.
    """
    worst = float((ours - theirs).norm(dim=1).max())
    if worst > (1e-3 if dtype == "float32" else 0.3):
        raise RuntimeError(f"the features of vmap are not ours: they differ by {worst:.2g} of their length")


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 itself instead of emulating it."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return claims_bfloat16()


def _bfloat16(arguments: argparse.Namespace, runs: dict[str, Callable[[], object]]) -> float | None:
    """Time of ours in bfloat16 over that of one sample at a time in float32; None where bfloat16 is emulated."""
    if not has_bfloat16(arguments.device) or "one-at-a-time" not in runs:
        return None
    model = build(arguments.size, arguments.device, torch.bfloat16)
    rows = draw_rows(arguments.rows, SIZES[arguments.size]["vocab_size"])
    config = GradientConfig(dtype="bfloat16", batch_tokens=arguments.batch_tokens)
    narrow = contender("ours", model, rows, config)
    narrow()
    times = [
        (timed(narrow, arguments.device), timed(runs["one-at-a-time"], arguments.device))
        for _ in range(arguments.rounds)
    ]
    return round(statistics.median(mine / theirs for mine, theirs in times), 3)


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
    parser.add_argument("--memory-rows", nargs="*", type=int, default=[2000, 20000])
    parser.add_argument("--bergson-python", help="an interpreter with bergson installed, for its row on a GPU")
    parser.add_argument("--one", choices=(*CONTENDERS, STREAMED), help=argparse.SUPPRESS)
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
        for name, where in (("bfloat16", "where the processor multiplies it"), ("bergson", f"by {ON_A_GPU}")):
            print(f"{name}: {f'not measured; {where}' if result[name] is None else result[name]}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
