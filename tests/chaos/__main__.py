"""``python -m tests.chaos --seconds 60 --seed 1``: the service under a random nemesis; status 1 on a violation."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run


def main() -> int:
    """Run once and print the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spice-chaos-") as folder:
        verdict, text = run(Path(folder), arguments.seconds, arguments.seed)
    sys.stdout.write(text + "\n")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
