"""``python -m benchmarks.cost``: what choosing and training on a tenth costs beside training on everything.

Measured on one machine in processor seconds and in floating-point operations (of matrix products, as torch counts
them): one pass of gradients over the pool by a proxy, the selection, training on the chosen tenth, training on
everything. Models are made in code and not trained before, which changes no cost. Where the break-even lies follows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

import spice_select as ss
from benchmarks.machine import describe
from benchmarks.toy.material import encoded, parts, read
from benchmarks.toy.models import Size, make_tokenizer, shape_of
from spice_select.evaluation.settings import TrainingConfig
from spice_select.evaluation.training import schedule_of
from spice_select.records.tokenize import Example
from spice_select.training.steps import train

BUNDLED = Path(__file__).parents[1] / "examples" / "bundled.jsonl"
SIZES = {"small": Size(64, 3, 2, 0), "large": Size(160, 6, 5, 0)}
PAIRS = (("small", "small"), ("small", "large"), ("large", "large"))
"""Which proxy chooses for which model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=BUNDLED)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many counts")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given)
    print(report(found))
    if given.json:
        print(json.dumps(found))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds and operations of every step, for both models, and what follows for each pair."""
    rows = read(given.pool)[: given.rows]
    tokenizer = make_tokenizer([part for row in rows for part in parts(row)], 1024)
    examples = [example for example, _ in encoded(rows, tokenizer, given.max_length)]
    count = round(given.fraction * len(examples))
    steps = {}
    for name, size in SIZES.items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(shape_of("qwen2", size, tokenizer)).eval()
        steps[name] = _steps(model, examples, count, given.repeats)
    return {
        "machine": describe(),
        "date": datetime.now(UTC).date().isoformat(),
        "pool": {"rows": len(examples), "tokens": sum(len(e.input_ids) for e in examples), "chosen": count},
        "steps": steps,
        "pairs": [_pair(proxy, target, steps) for proxy, target in PAIRS],
    }


def _steps(model: Any, examples: list[Example], count: int, repeats: int) -> dict[str, Any]:
    gradients = ss.collect_gradients(model, examples, ss.GradientConfig())
    config = ss.SelectionConfig(budget=ss.Budget(count=count))
    matching = config.model_copy(update={"matching_weight": 1.0})
    chosen = [examples[row] for row in ss.select(gradients, config).indices]
    return {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "gradients": _cost(lambda: ss.collect_gradients(model, examples, ss.GradientConfig()), repeats),
        "selection": _cost(lambda: ss.select(gradients, config), repeats),
        "selection, matching": _cost(lambda: ss.select(gradients, matching), repeats),
        "tenth": _cost(lambda: _epoch(model, chosen), repeats),
        "everything": _cost(lambda: _epoch(model, examples), repeats),
    }


def _pair(proxy: str, target: str, steps: dict[str, Any]) -> dict[str, Any]:
    """Passes over the data from which choosing and training on the choice is cheaper than training on everything."""
    found: dict[str, Any] = {"proxy": proxy, "target": target}
    for unit in ("seconds", "operations"):
        before = steps[proxy]["gradients"][unit] + steps[proxy]["selection"][unit]
        saved = steps[target]["everything"][unit] - steps[target]["tenth"][unit]
        found[unit] = {
            "before_training": before,
            "saved_each_pass": saved,
            "break_even_passes": round(before / saved, 3),
            "three_passes": round(
                (before + 3 * steps[target]["tenth"][unit]) / (3 * steps[target]["everything"][unit]), 3
            ),
        }
    return found


def report(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    pool, machine = found["pool"], found["machine"]
    lines = [
        f"{pool['rows']:,} rows, {pool['tokens']:,} tokens, {pool['chosen']:,} chosen; processor seconds on",
        f"{machine['processor']}, one thread, torch {machine['torch']}; operations of matrix products in 10^9.",
        "",
        "| model | weights | gradients of the pool | selection | with matching | a pass of the tenth | a pass of all |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, steps in found["steps"].items():
        cells = [
            f"{step['seconds']:.2f} s, {step['operations'] / 1e9:.1f}"
            for step in (steps[key] for key in ("gradients", "selection", "selection, matching", "tenth", "everything"))
        ]
        lines.append(f"| {name} | {steps['weights']:,} | {' | '.join(cells)} |")
    lines += [
        "",
        "| chosen with | to train | passes to break even, by seconds | by operations | three passes beside all |",
        "|---|---|---|---|---|",
    ]
    for pair in found["pairs"]:
        seconds, operations = pair["seconds"], pair["operations"]
        lines.append(
            f"| {pair['proxy']} | {pair['target']} | {seconds['break_even_passes']:.2f} |"
            f" {operations['break_even_passes']:.2f} | {seconds['three_passes']:.0%} |"
        )
    return "\n".join(lines)


def _epoch(model: Any, examples: list[Example]) -> None:
    lengths = [len(example.input_ids) for example in examples]
    config = TrainingConfig(epochs=1, batch_rows=8)
    schedule = schedule_of(config, count=len(examples), mean_tokens=sum(lengths) / len(lengths))
    train(model, list(model.parameters()), examples, schedule, config, seed=0)


def _cost(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    with FlopCounterMode(display=False) as counter:
        work()
    return {"seconds": round(min(seconds), 4), "operations": counter.get_total_flops()}


if __name__ == "__main__":
    main()
