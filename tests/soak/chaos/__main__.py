"""``python -m tests.soak.chaos --seconds 60 --seed 1``: the service under a random nemesis; status 1 on a violation."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.chaos.run import run


def main() -> int:
    """Run once and print the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="draw only moves whose name matches this regular expression")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spice-chaos-"))
    verdict, text = run(folder, arguments.seconds, arguments.seed, only=arguments.only)
    sys.stdout.write(text + "\n")
    if verdict.violations:
        # Whoever has to understand it needs what every process logged.
        sys.stdout.write(f"logs: {folder}\n")
    else:
        shutil.rmtree(folder)
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
