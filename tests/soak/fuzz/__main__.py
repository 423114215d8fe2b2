"""``python -m tests.soak.fuzz --seconds 600 --seed 1``: hostile files; status 1 when one finds a hole."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.soak.fuzz.mutants import mutant
from tests.soak.fuzz.run import report, run


def main() -> int:
    """Run once, print the report, and keep files that found something where ``--keep`` says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--keep", type=Path, help="folder for the files that found a hole")
    arguments = parser.parse_args()
    outcome = run(arguments.seed, arguments.seconds, arguments.first)
    sys.stdout.write(report(outcome, arguments.seed) + "\n")
    for number, _ in outcome.faults if arguments.keep else []:
        (arguments.keep / f"seed-{arguments.seed}-number-{number}.bin").write_bytes(mutant(arguments.seed, number))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
