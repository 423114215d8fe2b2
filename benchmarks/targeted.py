"""What selecting for targets costs beside the untargeted lazy selection.

    python -m benchmarks.targeted [--rows 4000] [--count 400] [--dimension 13440] [--tasks 3] [--target-rows 30]

The pool is made up: three domains in a space of 200 directions of falling strength, plus noise in all features, rows
of length one, float32. It stands for whitened gradients; picks are not judged here. Seconds are those of all
processors, from the matrix in memory to the picks, without the certificate. To reach: relevance 1.2 times the
untargeted selection, matching 3 times, either in the span of the target rows 0.2 times.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch

from benchmarks.machine import describe
from spice_select.config import Budget, SelectionConfig
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.greedy import choose
from spice_select.selection.methods import SideData
from spice_select.selection.target_span import in_span

DIRECTIONS = 200
CONTENDERS: dict[str, dict[str, Any]] = {
    "untargeted": {},
    "relevance (B)": {"target_rule": "relevance"},
    "matching (A)": {"target_rule": "matching"},
    "relevance, span": {"target_rule": "relevance", "span": True},
    "matching, span": {"target_rule": "matching", "span": True},
}


def made_up(
    rows: int, dimension: int, domains: torch.Tensor, basis: torch.Tensor, draw: torch.Generator
) -> torch.Tensor:
    """Rows of length one, each of a domain drawn at random, float32 of shape (rows, dimension)."""
    strength = torch.linspace(1.0, 0.1, DIRECTIONS)
    domain = domains[torch.randint(0, len(domains), (rows,), generator=draw)]
    signal = (0.6 * torch.randn(rows, DIRECTIONS, generator=draw) * strength + domain) @ basis
    noise = torch.randn(rows, dimension, generator=draw)
    return torch.nn.functional.normalize(
        signal + 1.6 * float(signal.norm(dim=1).mean()) / dimension**0.5 * noise, dim=1
    )


def measure(
    rows: int, count: int, dimension: int, tasks: int, target_rows: int, seed: int
) -> dict[str, dict[str, float]]:
    """Processor seconds of every contender."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.randn(DIRECTIONS, dimension, generator=draw) / dimension**0.5
    domains = 0.6 * torch.randn(3, DIRECTIONS, generator=draw)
    pool = made_up(rows, dimension, domains, basis, draw)
    targets = tuple(
        made_up(target_rows, dimension, domains[task % 3 : task % 3 + 1], basis, draw).double() for task in range(tasks)
    )
    figures: dict[str, dict[str, float]] = {}
    for name, settings in CONTENDERS.items():
        config = SelectionConfig(budget=Budget(count=count), **settings)
        side = SideData(targets=targets if settings else ())
        began, began_wall = time.process_time(), time.perf_counter()
        candidates = GradientMatrix(pool)
        if config.span:
            candidates, side = in_span(candidates, side)
        selection = choose(candidates, config, side, certified=False)
        seconds = time.process_time() - began
        figures[name] = {
            "processor_seconds": seconds,
            "wall_seconds": time.perf_counter() - began_wall,
            "times_untargeted": seconds / figures["untargeted"]["processor_seconds"] if figures else 1.0,
            "refreshed_share": selection.refreshed / (rows * count),
        }
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--dimension", type=int, default=13_440)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--target-rows", type=int, default=30, help="of each task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    figures = measure(given.rows, given.count, given.dimension, given.tasks, given.target_rows, given.seed)
    for name, values in figures.items():
        print(f"{name:18}", *(f"{key} {value:8.3g}" for key, value in values.items()))
    if given.json:
        print(json.dumps({"targeted": figures, "settings": vars(given), "machine": describe()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
