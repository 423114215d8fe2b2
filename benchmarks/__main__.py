"""``python -m benchmarks``: every benchmark, one after the other, each with a table and one line of JSON."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import benchmarks

NOT_BENCHMARKS = {"__main__", "machine", "pools", "rivals"}


def main() -> int:
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    failed = 0
    for name in names:
        if name in NOT_BENCHMARKS or name.startswith("_"):
            continue
        print(f"== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--json"], check=False).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
