"""How the selection grows: a tenth of 10 thousand, 100 thousand and a million rows, read from a memory map in blocks.

    python -m benchmarks.scale --json
    python -m benchmarks.scale --file pool.jsonl.gz --sizes 10000,100000,1000000 --scopes windows --window 2500 --json

Each run is a process of its own, so that its peak memory is its own. Pages of the memory map count as memory although
the system may drop them at any time; ``anonymous_mib`` is what it may not drop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.machine import describe
from benchmarks.pools import BUNDLED, Source
from spice_select.config import Budget, SelectionConfig
from spice_select.selection.select import select

DIMENSION = 512
SHARE = 10


def run(path: Path, scope: dict[str, Any], seed: int) -> dict[str, Any]:
    """Choose a tenth of a pool.

    Args:
        path: Pool of shape (n, d), float32, as written by numpy.
        scope: The scope.
        seed: Seed of the selection.

    Returns:
        Times (seconds), memory (MiB), utility (nats), certificate and what the cutting cost on a sample.
    """
    torch.set_num_threads(psutil.cpu_count(logical=False) or 1)
    gradients = torch.from_numpy(np.load(path, mmap_mode="c"))
    count = len(gradients) // SHARE
    config = SelectionConfig.model_validate({"budget": Budget(count=count), "scope": scope, "seed": seed})
    process, most, done = psutil.Process(), [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            memory = process.memory_info()
            most[0], most[1] = max(most[0], memory.rss), max(most[1], memory.rss - memory.shared)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, began = time.perf_counter(), time.process_time()
    try:
        chosen = select(gradients, config)
    finally:
        done.set()
        watcher.join()
    seconds, processor = time.perf_counter() - start, time.process_time() - began
    certificate, cut = chosen.certificate, chosen.scope
    assert certificate is not None
    return {
        "n": len(gradients),
        "k": count,
        "d": gradients.shape[1],
        "scope": scope,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "rows_per_processor_second": round(len(gradients) / processor),
        "rows_per_second": round(len(gradients) / seconds),
        "peak_mib": most[0] >> 20,
        "anonymous_mib": most[1] >> 20,
        "pool_mib": gradients.nbytes >> 20,
        "utility": chosen.utility,
        "upper_bound": certificate.upper_bound,
        "ratio": certificate.ratio,
        "sample_loss": None if cut is None else cut.loss,
    }


def main() -> int:
    """Make the pools, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--file", type=Path, default=BUNDLED)
    parser.add_argument("--source-rows", type=int, default=30_000)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--scopes", default="windows", help="of global, windows, partitioned, separated by commas")
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--window", type=int, default=2500)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("POOL", "SCOPE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run(Path(asked.one[0]), json.loads(asked.one[1]), asked.seed)))
        return 0
    scopes = {"global": {"kind": "global"}, "windows": {"kind": "windows", "size": asked.window}}
    scopes["partitioned"] = {"kind": "partitioned", "parts": asked.parts}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        source = Source(asked.file, asked.source_rows, asked.scratch or Path(temporary), asked.seed)
        for size in [int(size) for size in asked.sizes.split(",")]:
            source.pool(size, DIMENSION)
            path = source.pool_path(size, DIMENSION)
            for name in asked.scopes.split(","):
                command = [sys.executable, "-m", "benchmarks.scale", "--seed", str(asked.seed)]
                command += ["--one", str(path), json.dumps(scopes[name])]
                answer = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append(json.loads(answer.stdout))
                shown = (
                    "{n:>9,} rows, {scope[kind]}: {seconds:,} s ({processor_seconds:,} of the processor), {peak_mib:,} "
                    "MiB at most ({anonymous_mib:,} of its own), U {utility:.2f} of at most {upper_bound:.2f}"
                )
                print(shown.format(**rows[-1]), flush=True)
    if asked.json:
        print(json.dumps({"benchmark": "scale", "machine": describe(), "seed": asked.seed, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
