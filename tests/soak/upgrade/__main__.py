"""``python -m tests.soak.upgrade [--older REVISION]``: a rolling upgrade to this checkout; status 1 on a violation."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.upgrade.older import previous_revision
from tests.soak.upgrade.run import report, run


def main() -> int:
    """Run once and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.upgrade", description=__doc__)
    parser.add_argument(
        "--older", default="", help="revision of the history to come from; the commit before without it"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spice-upgrade-"))
    older = arguments.older or previous_revision()
    outcome = run(folder, older, arguments.seed)
    sys.stdout.write(report(outcome, older, arguments.seed) + "\n")
    if outcome.verdict.violations or outcome.failed:
        sys.stdout.write(f"logs: {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
