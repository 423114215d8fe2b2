"""How many picks stay the same when gradients are computed another way.

    python -m benchmarks.picks --model FOLDER --data FILE [--rows 150] [--count 15] [--max-length 64]

The same rows are measured with batches of 256 and of 2,048 tokens, with one thread and with two, and in bfloat16, and
some are selected from each: by `spice` without a target, and by both target rules with rows of the same data as a
target. Shown are the share of the picks of the first way (float32, 2,048 tokens, one thread) that the others keep, the
utility of their picks under the first way's gradients beside that of its own, and how many picks were decided by less
than the precision.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from benchmarks.machine import describe
from benchmarks.toy.material import encoded
from spice_select.selection.logdet import log_determinant

WAYS: dict[str, tuple[str, int, int]] = {
    "float32, 2,048 tokens, 1 thread": ("float32", 2048, 1),
    "float32, 256 tokens, 1 thread": ("float32", 256, 1),
    "float32, 2,048 tokens, 2 threads": ("float32", 2048, 2),
    "bfloat16, 2,048 tokens, 1 thread": ("bfloat16", 2048, 1),
}
"""Type of the computation, tokens in a batch, threads."""


def read(path: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of a file of JSON lines, compressed or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def gradients_of(given: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Gradients of length one of pool and target rows, one after the other, for each way."""
    proxy = ss.load_proxy(ss.ProxyConfig(model=str(given.model.resolve())), ss.GradientConfig())
    rows = encoded(read(given.data, given.rows + given.target_rows), proxy.tokenizer, given.max_length)
    examples = [example for example, _ in rows]
    found = {}
    for name, (dtype, tokens, threads) in WAYS.items():
        torch.set_num_threads(threads)
        model = proxy.model.to(getattr(torch, dtype))
        settings = ss.GradientConfig(dtype=dtype, batch_tokens=tokens, sketch_dim=given.projection)
        rows = ss.collect_gradients(model, examples, settings)
        found[name] = torch.nn.functional.normalize(rows.double(), dim=1).float()
        print(name, tuple(rows.shape), file=sys.stderr, flush=True)
    return found


def compare(found: dict[str, torch.Tensor], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Picks kept and utility kept of every way, without and with a target."""
    torch.set_num_threads(1)
    lines, size = [], len(next(iter(found.values()))) - given.target_rows
    for rule in ("untargeted", "matching", "relevance"):
        config = ss.SelectionConfig(budget=ss.Budget(count=given.count))
        if rule != "untargeted":
            config = config.model_copy(update={"target_rule": rule})
        first: list[int] = []
        for name, rows in found.items():
            pool, targets = rows[:size], None if rule == "untargeted" else [rows[size:]]
            selection = ss.select(pool, config, targets=targets)
            first = first or selection.indices
            truth = next(iter(found.values()))[:size].double()
            utilities = [log_determinant(truth[picks], config.alpha) for picks in (selection.indices, first)]
            lines.append(
                {
                    "rule": rule,
                    "way": name,
                    "picks_kept": len(set(first) & set(selection.indices)) / len(first),
                    "utility_kept": utilities[0] / utilities[1],
                    "undecided": selection.undecided,
                    "largest_difference": float((rows - next(iter(found.values()))).norm(dim=1).max()),
                }
            )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--data", type=Path, required=True, help="JSON lines, .gz or not")
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--target-rows", type=int, default=10)
    parser.add_argument("--count", type=int, default=15)
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a row at most")
    parser.add_argument("--projection", type=int, default=64, help="numbers for each layer")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    lines = compare(gradients_of(given), given)
    for line in lines:
        print(" | ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in line.values()))
    if given.json:
        print(json.dumps({"picks": lines, "machine": describe()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
