"""How many picks stay the same when gradients are computed or kept in another way.

    python -m benchmarks.picks --data DATA --model MODEL --work DIR [--rows 600] [--ways NAME ...] [--json]

The pool is drawn as pool (b) of ``docs/evaluation-protocol.md`` from rows of three domains, those longer than
``LONGEST`` left out, with 30 target rows a domain. It is measured once for every way, kept under ``--work``, and a
tenth is selected from each: for the targets by the default rule and by ``relevance``, and without targets by the
presets ``paper`` and ``recommended``. Shown are the share of the picks of the first way that the others keep, the
utility of their picks under the first way's gradients beside that of its own, picks that were decided by less than
the precision, and how far gradients are from those of the first way. Batches are as large as they say: the smaller
ones that a CPU takes by itself are switched off.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import spice_select as ss
from benchmarks.machine import describe
from benchmarks.quality.corpus import Row, ShortEnough, draw_pool, read_corpus
from benchmarks.quality.scales import TASKS, Scale
from spice_select.gradients import per_sample
from spice_select.presets import PRESETS
from spice_select.records.tokenize import Example, load_examples
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.logdet import log_determinant
from spice_select.selection.whitening import Whitening, second_moments

LONGEST = {"math": 160, "code": 96, "general": 96}
"""Tokens of the longest row of each domain."""


class Way(NamedTuple):
    """A way to compute gradients.

    Attributes:
        dtype: Type of the computation.
        tokens: Most tokens in a batch.
        threads: Threads of the processor.
        packed: Whether several samples share a row.
        kept: Type that the gradients are kept in.
        capped: Whether the libraries are held to the instructions of a processor with no more than AVX2.
    """

    dtype: str = "float32"
    tokens: int = 512
    threads: int = 1
    packed: bool = False
    kept: str = "float32"
    capped: bool = False

    def __str__(self) -> str:
        kept = "" if self.kept == "float32" else f", kept in {self.kept}"
        more = ", packed" * self.packed + kept + ", AVX2" * self.capped
        return f"{self.dtype}, {self.tokens:,} tokens, {self.threads} thread{'s' * (self.threads > 1)}{more}"


WAYS = {
    "reference": Way(),
    "bfloat16": Way("bfloat16"),
    "batch-256": Way(tokens=256),
    "batch-2048": Way(tokens=2048),
    "threads-2": Way(threads=2),
    "packed": Way(packed=True),
    "bfloat16-batch-2048": Way("bfloat16", 2048),
    "bfloat16-threads-2": Way("bfloat16", threads=2),
    "batch-1024": Way(tokens=1024),
    "avx2": Way(capped=True),
    "kept-float16": Way(kept="float16"),
    "kept-bfloat16": Way(kept="bfloat16"),
}
"""The first is what the others are compared with."""
CAP = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""Read when torch is loaded, so that a capped way is measured in a process of its own."""


class ShortForItsDomain:
    """Leaves out rows that are longer than the others of their domain.

    Args:
        tokenizer: Of the model.
        scales: The scale of each domain, with its longest row.
    """

    def __init__(self, tokenizer: Any, scales: dict[str, Scale]) -> None:
        self._fits = {task: ShortEnough(tokenizer, scale) for task, scale in scales.items()}

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are short enough, in order.

        Args:
            rows: Rows of one domain.
        """
        return self._fits[rows[0].task](rows) if rows else []


class Material(NamedTuple):
    """A pool and its targets.

    Attributes:
        rows: Rows of the pool, then 30 target rows for each domain.
        examples: The same under the model's tokenizer.
        pool: How many of them are the pool.
    """

    rows: list[Row]
    examples: list[Example]
    pool: int


def material(data: Path, tokenizer: Any, pool_rows: int, number: int = 0) -> Material:
    """Rows of three domains, 30 % of them noise, and target rows.

    Args:
        data: Folder of the data.
        tokenizer: Of the model.
        pool_rows: Rows of the pool.
        number: Number of the draw.
    """
    scales = {
        task: Scale(pool_rows=pool_rows, max_tokens=most, leave_out_longer=True, test_rows=30, rates=[1e-3], cells=[])
        for task, most in LONGEST.items()
    }
    fits = ShortForItsDomain(tokenizer, scales)
    draw = draw_pool(read_corpus(data, scales["math"], fits), "dirty", number, scales["math"], fits)
    targets = [row for task in TASKS for row in draw.targets[task]]
    if len(draw.pool) != pool_rows or len(targets) != 30 * len(TASKS):
        raise SystemExit(f"only {len(draw.pool)} rows and {len(targets)} target rows are short enough")
    rows = [*draw.pool, *targets]
    return Material(rows, load_examples([row.record for row in rows], tokenizer, max_length=160), pool_rows)


def measured(
    way: Way, model: Any, examples: Sequence[Example], path: Path, sketch: int = 64
) -> dict[str, torch.Tensor]:
    """Gradients of length one, their lengths and the processor seconds they took; kept in a file."""
    if way.capped and not path.exists() and not CAP.items() <= os.environ.items():
        subprocess.run([sys.executable, "-m", "benchmarks.picks", *sys.argv[1:]], env=os.environ | CAP, check=True)
    if not path.exists():
        per_sample.CPU_BATCH_NUMBERS = per_sample.MOST_ON_CPU = 2**40
        torch.set_num_threads(way.threads)
        settings = ss.GradientConfig(dtype=way.dtype, batch_tokens=way.tokens, sketch_dim=sketch)
        # A copy: float32 weights that went through bfloat16 would not be what they were.
        typed = model if way.dtype == "float32" else copy.deepcopy(model).to(getattr(torch, way.dtype))
        began = time.process_time()
        found = per_sample.measure(typed, examples, settings, packed=way.packed)
        seconds = torch.tensor(time.process_time() - began, dtype=torch.float64)
        sizes = torch.tensor(found.block_sizes)
        kept = {"features": found.features, "norms": found.norms, "seconds": seconds, "sizes": sizes}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
        torch.set_num_threads(1)
    return load_file(path)


def select(rule: str, found: dict[str, torch.Tensor], way: Way, pool: int, count: int) -> tuple[Any, torch.Tensor]:
    """A selection, and the rows that its utility is taken of, float64."""
    kept = getattr(torch, way.kept)
    features = found["features"].to(kept).float()
    if rule == "paper, no target":
        scaled = (found["features"] * found["norms"][:, None].float())[:pool].to(kept).float()
        options = PRESETS["paper"]["selection"]
        config = ss.SelectionConfig(budget=ss.Budget(count=count), **options)
        return ss.select(GradientMatrix(scaled.numpy(), way.kept), config), scaled.double()
    if rule == "recommended, no target":
        config = ss.SelectionConfig(budget=ss.Budget(count=count), **PRESETS["recommended"]["selection"])
        return ss.select(GradientMatrix(features[:pool].numpy(), way.kept), config), features[:pool].double()
    name, span = rule.removesuffix(", span"), rule.endswith(", span")
    config = ss.SelectionConfig(budget=ss.Budget(count=count), target_rule=name, span=span)
    candidates = GradientMatrix(features[:pool].numpy(), way.kept)
    whitening = Whitening(second_moments(candidates, found["sizes"].tolist()), config.whitening_damping or 0.1)
    rows = whitening(features.double())
    targets = list(rows[pool:].split(30))
    whitened = rows[:pool].float()
    return ss.select(GradientMatrix(whitened.numpy(), way.kept), config, targets=targets), whitened.double()


RULES = ("matching", "relevance", "matching, span", "relevance, span", "paper, no target", "recommended, no target")
FOR_TARGETS = RULES[:4]


def compare(ways: dict[str, dict[str, torch.Tensor]], pool: int) -> list[dict[str, Any]]:
    """Picks kept and utility kept of every way under every rule."""
    lines, count = [], pool // 10
    names = list(ways)
    truth = ways[names[0]]
    for rule in RULES:
        first, exact = select(rule, truth, WAYS[names[0]], pool, count)
        for name in names:
            chosen = first if name == names[0] else select(rule, ways[name], WAYS[name], pool, count)[0]
            utilities = [log_determinant(exact[picks], 1.0) for picks in (chosen.indices, first.indices)]
            same = [mine == theirs for mine, theirs in zip(chosen.indices, first.indices, strict=True)]
            far = (ways[name]["features"].to(getattr(torch, WAYS[name].kept)).float() - truth["features"]).norm(dim=1)
            lines.append(
                {
                    "rule": rule,
                    "way": str(WAYS[name]),
                    "picks_kept": len(set(first.indices) & set(chosen.indices)) / count,
                    "in_the_same_place": sum(same) / count,
                    "same_until": same.index(False) if False in same else count,
                    "utility_kept": utilities[0] / utilities[1],
                    "undecided": chosen.undecided,
                    "least_margin": min(chosen.margins),
                    "median_margin": float(np.median(chosen.margins)),
                    "largest_difference": float(far.max()),
                    "median_difference": float(far.median()),
                    "processor_seconds": float(ways[name]["seconds"]),
                }
            )
    return lines


def least_kept(lines: Sequence[dict[str, Any]], dtype: str) -> float | None:
    """The least share of picks kept by other ways in a type; in bfloat16 for targets alone, as the goal has it."""
    found = [
        line["picks_kept"]
        for line in lines
        if line["way"].startswith(dtype)
        and "kept in" not in line["way"]
        and line["way"] != str(WAYS["reference"])
        and (dtype == "float32" or line["rule"] in FOR_TARGETS)
    ]
    return min(found, default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SPICE_EVIDENCE_DATA"), help="folder of the data")
    parser.add_argument("--model", default=os.environ.get("SPICE_EVIDENCE_MODEL"), help="folder of the model")
    parser.add_argument("--work", type=Path, default=Path("picks-work"), help="keeps the gradients")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="measured beside the first")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.data is None or given.model is None:
        parser.error("--data and --model are needed (or SPICE_EVIDENCE_DATA and SPICE_EVIDENCE_MODEL)")
    torch.set_num_threads(1)
    proxy = ss.load_proxy(ss.ProxyConfig(model=given.model), ss.GradientConfig())
    rows = material(given.data, proxy.tokenizer, given.rows)
    tokens = sum(len(example.input_ids) for example in rows.examples)
    found: dict[str, dict[str, torch.Tensor]] = {}
    if CAP.items() <= os.environ.items():
        measured(WAYS["avx2"], proxy.model, rows.examples, given.work / f"avx2-{given.rows}.safetensors")
        return 0
    for name in dict.fromkeys(["reference", *given.ways]):
        place = given.work / f"{'reference' if WAYS[name].kept != 'float32' else name}-{given.rows}.safetensors"
        found[name] = measured(WAYS[name], proxy.model, rows.examples, place)
        print(name, f"{float(found[name]['seconds']):.0f} processor s", file=sys.stderr, flush=True)
    lines = compare(found, rows.pool)
    for line in lines:
        print(" | ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in line.values()))
    if given.json:
        kept = {dtype: least_kept(lines, dtype) for dtype in ("float32", "bfloat16")}
        about = {"rows": rows.pool, "tokens": tokens, "machine": describe()}
        print(json.dumps({"picks": lines, "kept": kept, **about}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
