"""Children that read hostile files, one after another died or done, and what came of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.fixtures.processes import ROOT

ROUND_SECONDS = 60.0
"""A child lasts this long: what it leaks does not add up."""


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        ends: Files by what became of them.
        faults: Number of a file and what was wrong, for each hole or death.
        slowest: Seconds that the slowest file took, and its number.
        peak: Most memory of a child, bytes.
    """

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak: int = 0


def run(seed: int, seconds: float, first: int = 0, files: int | None = None) -> Outcome:
    """Read hostile files for some time, or so many of them.

    Args:
        seed: Of the files.
        seconds: How long at most.
        first: Number of the first file.
        files: How many at most.
    """
    outcome, number, end = Outcome(), first, time.monotonic() + seconds
    last = sys.maxsize if files is None else first + files
    while (left := end - time.monotonic()) > 0 and number < last:
        words, status = _child(seed, number, last, min(left, ROUND_SECONDS))
        for word in words:
            number = word["number"] + 1
            if "end" in word:
                outcome.ends[word["end"].partition(":")[0]] += 1
                outcome.slowest = max(outcome.slowest, (word["seconds"], word["number"]))
                if word["end"].startswith("hole"):
                    outcome.faults.append((word["number"], word["end"]))
        if status != 0:
            outcome.ends["death"] += 1
            outcome.faults.append((number - 1, f"the reader ended with status {status}"))
    outcome.peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return outcome


def _child(seed: int, first: int, last: int, seconds: float) -> tuple[list[dict], int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.fuzz.child", str(seed), str(first), str(last), str(seconds)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def report(outcome: Outcome, seed: int) -> str:
    """The outcome for people."""
    lines = [
        f"seed {seed}: {outcome.ends.total()} files, slowest {outcome.slowest[0]:.2f} s "
        f"(number {outcome.slowest[1]}), {outcome.peak / 2**20:.0f} MiB at most",
        *(f"{count:7} {end}" for end, count in outcome.ends.most_common()),
        *(f"FAULT number {number}: {fault}" for number, fault in outcome.faults[:60]),
    ]
    return "\n".join(lines)
