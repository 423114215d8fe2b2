"""``python -m tests.soak.load --seconds 600 --seed 1``: 32 clients, processes restarted; status 1 on a problem."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.load.run import report, run


def main() -> int:
    """Run once and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=32)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spice-load-"))
    outcome = run(folder, arguments.seconds, arguments.seed, threads=arguments.threads)
    sys.stdout.write(report(outcome, arguments.seed) + "\n")
    if outcome.problems:
        sys.stdout.write(f"logs: {folder}\n")
    else:
        shutil.rmtree(folder)
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
