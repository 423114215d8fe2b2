"""Processor seconds until a worker process is ready to select, and what the first model brings on top.

    python -m benchmarks.worker_start --rounds 5

Ready means: torch and everything that a selection needs is imported, and the libraries are out of the garbage
collector's reach. Models import transformers when the first of them is needed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.machine import describe

CHILD = """
import json, tempfile, threading, time
from app.settings import Settings
from workers.run_unit import UnitRunner
resources = UnitRunner(Settings(data_dir=tempfile.mkdtemp(), device="cpu"), "x", threading.Event()).resources
resources.load_selection()
resources.keep_libraries()
ready = time.process_time()
resources.load_models()
print(json.dumps([ready, time.process_time() - ready]))
"""


def main() -> None:
    """Print the medians over several fresh processes, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one line of JSON as well")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    times = [
        json.loads(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds)
    ]
    ready, models = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"ready to select {ready:.2f} s, the first model {models:.2f} s more (processor seconds, median of {rounds})")
    if arguments.json:
        print(json.dumps({**describe(), "rounds": rounds, "ready_s": round(ready, 2), "models_s": round(models, 2)}))


if __name__ == "__main__":
    main()
