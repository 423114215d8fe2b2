"""The exact greedy against other ways to choose, on the same rows, in one run.

    python -m benchmarks.selection --json                        what a few minutes and the bundled rows allow
    python -m benchmarks.selection --file FILE --source-rows N   gradients of the rows of a file
    python -m benchmarks.selection --rows large --device cuda    one row of the table
    python -m benchmarks.selection --rows submodlib --submodlib-python PYTHON

PYTHON is an interpreter that has submodlib, which is no dependency of this project. Gradients are those of
``builtin:tiny`` (``benchmarks/pools.py`` says how pools are made of them), for ``authors`` the exact gradients of a
model with 720,896 weights in its linear layers. A ratio is theirs / ours in wall seconds; ours starts from the same
matrix in memory and ends with the picks. The certificate is timed beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.machine import describe
from benchmarks.pools import BUNDLED, LORA_SIZE, WIDE, Source, exact_gradients
from benchmarks.rivals import authors_greedy, authors_windows, dense_greedy, submodlib_greedy
from spice_select.config import Budget, SelectionConfig
from spice_select.selection.certificate import certify
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.greedy import choose
from spice_select.selection.logdet import log_determinant
from spice_select.selection.methods import SideData
from spice_select.selection.random_baseline import random_control
from spice_select.selection.result import Selection


@dataclass(frozen=True)
class Setting:
    """What every row of the table is measured with."""

    source: Source
    device: str
    submodlib_python: Path | None
    submodlib_gib: float
    scale: float

    def size(self, full: int) -> int:
        """A size of the table, or the part of it that a trial run takes."""
        return max(1, round(full * self.scale))

    def pool(self, rows: int, dimension: int) -> torch.Tensor:
        """The pool in memory on the device, float32 of shape (rows, dimension)."""
        return torch.from_numpy(self.source.pool(rows, dimension)[:].copy()).to(self.device)


@dataclass(frozen=True)
class Ours:
    """One selection of ours.

    Attributes:
        selection: The picks.
        seconds: Wall seconds from the matrix to the picks.
        processor_seconds: Seconds of all processors for the same.
        proof_seconds: Wall seconds of the certificate beyond that.
        figures: What every row prints of it.
    """

    selection: Selection
    seconds: float
    processor_seconds: float
    proof_seconds: float
    figures: dict[str, Any]


class Times(NamedTuple):
    """How long something took: on a machine that does other things too, only processor seconds are its own."""

    wall: float
    processor: float


def timed(work: Callable[[], Any], device: str) -> tuple[Any, Times]:
    """What the work returns, and the seconds it took."""
    began, began_processor = time.perf_counter(), time.process_time()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, Times(time.perf_counter() - began, time.process_time() - began_processor)


def choose_exactly(pool: torch.Tensor, count: int, device: str, *, proof: bool = True, **settings: Any) -> Ours:
    """Our selection with its times; the certificate is made apart."""
    config = SelectionConfig(budget=Budget(count=count), **settings)
    (candidates, selection), times = timed(
        lambda: (made := GradientMatrix(pool), choose(made, config, SideData(), certified=False)), device
    )
    figures: dict[str, Any] = {"refreshed_share": selection.refreshed / (len(pool) * count)}
    proof_seconds = 0.0
    if proof:
        certificate, proof_times = timed(lambda: certify(candidates, config, SideData(), selection), device)
        proof_seconds = proof_times.wall
        selection = replace(selection, certificate=certificate)
        figures |= {"proof_seconds": proof_seconds, "proven_ratio": certificate.ratio}
        figures |= {"utility": selection.utility, "random_utility": random_control(candidates, config, count, 0)}
    return Ours(selection, *times, proof_seconds, figures)


def beside(pool: torch.Tensor, ours: Ours, theirs: list[int], times: Times, target: float) -> dict[str, Any]:
    """The figures of a comparison. Picks count as the same where the gradients are, bit for bit: a pool has copies."""
    equal = (pool[ours.selection.indices] == pool[theirs]).all(dim=1).tolist()
    others = sum(mine != other for mine, other in zip(ours.selection.indices, theirs, strict=True))
    return {
        "ours_seconds": ours.seconds,
        "theirs_seconds": times.wall,
        "ratio": times.wall / ours.seconds,
        "ours_processor_seconds": ours.processor_seconds,
        "theirs_processor_seconds": times.processor,
        "processor_ratio": times.processor / ours.processor_seconds,
        "target_ratio": target,
        "same_picks": all(equal),
        "same_until": len(equal) if all(equal) else equal.index(False),
        "picks_that_are_copies_of_ours": others if all(equal) else None,
        **ours.figures,
    }


def authors(setting: Setting) -> dict[str, Any]:
    """The authors' penalised greedy, pool of 128, 64 picks, d = 720,896, diagonal."""
    count = setting.size(64)
    pool = exact_gradients(setting.source.file, 128).to(setting.device)
    ours = choose_exactly(pool, count, setting.device, proof=False, information="diagonal")
    theirs, times = timed(lambda: authors_greedy(pool, count), setting.device)
    return {"n": 128, "k": count, "d": LORA_SIZE, **beside(pool, ours, theirs, times, 100)}


def windows(setting: Setting) -> dict[str, Any]:
    """The authors' windows of 128, against our choice from the whole pool; higher utility is better."""
    n, count = setting.size(4000), setting.size(400)
    pool = setting.pool(n, WIDE)
    ours = choose_exactly(pool, count, setting.device)
    theirs, times = timed(lambda: authors_windows(pool, count), setting.device)
    figures = beside(pool, ours, theirs, times, 1)
    del figures["same_picks"], figures["same_until"], figures["picks_that_are_copies_of_ours"]
    return {"n": n, "k": count, "d": WIDE, **figures, "their_utility": log_determinant(pool[theirs].double(), 1.0)}


def submodlib(setting: Setting) -> dict[str, Any]:
    """The LogDeterminant of submodlib (kernel, building, lazy maximise), lambda = 0."""
    n, count = setting.size(4000), setting.size(400)
    if setting.submodlib_python is None:
        return {"not_measured": "give --submodlib-python"}
    setting.source.pool(n, WIDE)
    theirs = submodlib_greedy(
        setting.submodlib_python, setting.source.pool_path(n, WIDE), n, count, threads=torch.get_num_threads()
    )
    pool = setting.pool(n, WIDE)
    ours = choose_exactly(pool, count, setting.device, conflict_penalty=0.0)
    return {
        "n": n,
        "k": count,
        "d": WIDE,
        **beside(pool, ours, theirs["indices"], Times(theirs["seconds"], theirs["processor_seconds"]), 3),
        "their_peak_gib": theirs["peak_gib"],
        "their_gib_at_20000_rows": theirs["kernel_gib"] * (20_000 / n) ** 2,
        "versions": theirs["versions"],
    }


def beyond_submodlib(setting: Setting) -> dict[str, Any]:
    """As many rows as submodlib cannot hold the kernel of, lambda = 0; it gets so much memory and no more."""
    n, count = setting.size(20_000), setting.size(2000)
    setting.source.pool(n, WIDE)
    theirs: dict[str, Any] = {"their_outcome": "not measured: give --submodlib-python"}
    if setting.submodlib_python is not None:
        made = submodlib_greedy(
            setting.submodlib_python,
            setting.source.pool_path(n, WIDE),
            n,
            count,
            threads=torch.get_num_threads(),
            memory_gib=setting.submodlib_gib,
        )
        theirs = {
            "their_outcome": "out of memory" if made["out_of_memory"] else "finished",
            "their_memory_limit_gib": setting.submodlib_gib,
            "their_seconds": made["seconds"],
            "their_processor_seconds": made["processor_seconds"],
            "their_peak_gib": made["peak_gib"],
        }
    ours = choose_exactly(setting.pool(n, WIDE), count, setting.device, proof=False, conflict_penalty=0.0)
    return {
        "n": n,
        "k": count,
        "d": WIDE,
        **theirs,
        "ours_seconds": ours.seconds,
        "ours_processor_seconds": ours.processor_seconds,
        **ours.figures,
    }


def dense(setting: Setting) -> dict[str, Any]:
    """The exact greedy with one pass over all gradients for every pick."""
    n, count, d = setting.size(20_000), setting.size(2000), 1792
    pool = setting.pool(n, d)
    ours = choose_exactly(pool, count, setting.device)
    theirs, times = timed(lambda: dense_greedy(pool, count), setting.device)
    return {"n": n, "k": count, "d": d, **beside(pool, ours, theirs, times, 10)}


def large(setting: Setting) -> dict[str, Any]:
    """A pool of the paper's size, alone; at most 240 s on two cores, 10 s on one H200."""
    n, count, d = setting.size(97_500), setting.size(9750), setting.size(4096)
    ours = choose_exactly(setting.pool(n, d), count, setting.device, proof=False)
    target = 10 if setting.device == "cuda" else 240
    figures = {"target_seconds": target, "utility": ours.selection.utility, **ours.figures}
    return {"n": n, "k": count, "d": d, "ours_seconds": ours.seconds, **figures}


ROWS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "authors": authors,
    "windows": windows,
    "submodlib": submodlib,
    "beyond-submodlib": beyond_submodlib,
    "dense": dense,
    "large": large,
}
LONG = {"beyond-submodlib", "large"}
"""Rows that are only measured when asked for."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--rows", default=",".join(name for name in ROWS if name not in LONG), help=",".join(ROWS))
    parser.add_argument("--file", type=Path, default=BUNDLED, help="JSON lines to take gradients of, may be gzipped")
    parser.add_argument("--source-rows", type=int, default=4000, help="rows of the file to use at most")
    parser.add_argument("--scratch", type=Path, default=Path("benchmarks.out"), help="folder for gradients and pools")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the table's sizes, for a trial")
    parser.add_argument("--submodlib-python", type=Path, help="an interpreter that has submodlib")
    parser.add_argument("--submodlib-gib", type=float, default=16.0, help="memory it may map at 20,000 rows")
    arguments = parser.parse_args()
    names = arguments.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    source = Source(arguments.file, arguments.source_rows, arguments.scratch, arguments.seed)
    setting = Setting(source, arguments.device, arguments.submodlib_python, arguments.submodlib_gib, arguments.scale)
    rows = []
    for name in names:
        rows.append({"row": name, "what": ROWS[name].__doc__, **ROWS[name](setting)})
        print(shown(rows[-1]), flush=True)
    summary = {
        "benchmark": "selection",
        "machine": describe(),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "threads": arguments.threads,
        "seed": arguments.seed,
        "scale": arguments.scale,
        "file": arguments.file.name,
        "real_rows": len(source.gradients()),
        "rows": rows,
    }
    print(json.dumps(summary if arguments.json else {**summary, "rows": len(rows)}))
    return 0


def shown(row: dict[str, Any]) -> str:
    """One row for a reader."""
    figures = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if name not in {"row", "what"}
    )
    return f"{row['row']}: {row['what']}\n    {'  '.join(figures)}"


if __name__ == "__main__":
    sys.exit(main())
