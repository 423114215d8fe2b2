"""One table of what was measured.

    python -m benchmarks                          the table of results.json; figures of older code are marked
    python -m benchmarks --all --json             measure everything this machine has the means for, and keep it
    python -m benchmarks worker_start cost --json measure these

What is kept goes to ``benchmarks/results.json`` and, as a table, into ``benchmarks/README.md``. A figure is of the
present code while the files that it measures are byte for byte what they were (``benchmarks/registry.py`` names them).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import string
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.registry import BENCHMARKS, ROOT, Benchmark

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def measure(benchmark: Benchmark) -> dict[str, Any] | None:
    """Run one benchmark; None where it fails or something it needs is not here."""
    needed = {name for part in benchmark.arguments for _, name, _, _ in string.Formatter().parse(part) if name}
    if missing := sorted(needed - set(os.environ)):
        print(f"not measured: {', '.join(missing)} is not set", flush=True)
        return None
    given = [part.format_map(os.environ) for part in benchmark.arguments]
    digest, printed = benchmark.digest(), ""
    command = [sys.executable, "-m", benchmark.module, *given, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed = line
            if not line.startswith(("{", "[")):
                print(line, end="", flush=True)
    if process.returncode != 0:
        print(f"failed with exit status {process.returncode}", flush=True)
        return None
    if digest != benchmark.digest():
        print("not kept: the code changed while it was measured", flush=True)
        return None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "code": digest,
        "command": " ".join(["python -m", benchmark.module, *benchmark.arguments, "--json"]),
        "peers": benchmark.peers,
        "machine": describe(),
        "found": json.loads(printed),
    }


def table(kept: dict[str, Any], *, age: bool) -> list[str]:
    """The lines of the table.

    Args:
        kept: What ``results.json`` holds.
        age: Whether to say which figures are of the present code.
    """
    names = ["benchmark", "figure", "measured", "to reach", "on", *(["code"] if age else [])]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, benchmark in BENCHMARKS.items():
        entry = kept.get(name)
        is_new = entry is not None and entry["code"] == benchmark.digest()
        for figure in benchmark.figures:
            value = None if entry is None else figure.value(entry["found"])
            shown = "not measured" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
            date = "" if value is None or entry is None else entry["date"]
            line = f"| `{name}` | {figure.what} | {shown} | {figure.goal.replace('<', '&lt;')} | {date} |"
            lines.append(line + (f" {'' if value is None else 'present' if is_new else '**old**'} |" if age else ""))
    return lines


def peers(kept: dict[str, Any]) -> list[str]:
    """What each benchmark that was measured is compared with, and its command."""
    lines = []
    for name, entry in ((name, kept[name]) for name in BENCHMARKS if name in kept):
        machine = f"{entry['machine']['processor']}, torch {entry['machine']['torch']}"
        text = f"- `{name}`: `{entry['command']}`; beside {entry['peers']}; {machine}."
        lines.append(textwrap.fill(text, 130, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    return lines


def block(kept: dict[str, Any]) -> str:
    """The part of the page that is made of ``results.json``."""
    return "\n".join([BEGIN, "", *table(kept, age=False), "", *peers(kept), "", END])


def write_page(page: Path, kept: dict[str, Any]) -> None:
    """Replace the table in a page."""
    text = page.read_text(encoding="utf-8")
    made = re.sub(f"{BEGIN}.*{END}", lambda _: block(kept), text, flags=re.DOTALL)
    page.write_text(made, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--all", action="store_true", help="measure every benchmark")
    parser.add_argument("--json", action="store_true", help="keep what was measured in benchmarks/results.json")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(BENCHMARKS)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    failed = 0
    for name in BENCHMARKS if given.all else given.names:
        print(f"== {name}", flush=True)
        entry = measure(BENCHMARKS[name])
        failed += entry is None
        if entry is not None:
            kept[name] = entry
            if given.json:
                RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if given.json:
        write_page(PAGE, kept)
    print("\n".join(table(kept, age=True)))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
