"""Plants each fault in a copy of the checkout and runs the tests that should notice: ``python -m tests.mutants``.

A line for each fault: which command catches it. The exit status is 0 when all are caught, nine in ten by `make test`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.fault import Fault
from tests.mutants.gradients import GRADIENTS
from tests.mutants.http import HTTP
from tests.mutants.selection import SELECTION
from tests.mutants.units import UNITS

FAULTS = (*SELECTION, *GRADIENTS, *UNITS, *HTTP)
ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"make test": ["-m", "not soak"], "make soak": ["-m", "soak", "--thorough"]}
PASSED, FAILED, NOTHING_RAN = 0, 1, 5
MINUTES = 20
SHARE = 0.9
"""Least share of the faults that `make test` alone has to catch."""


def copy_checkout(folder: Path) -> Path:
    """A copy of what git knows of this checkout, and of what is new in it.

    Args:
        folder: An empty folder.
    """
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run_tests(checkout: Path, arguments: list[str], files: tuple[str, ...]) -> tuple[int, str]:
    """Run tests of a copy until the first failure; pytest's exit status and its last line about a test.

    Args:
        checkout: The copy.
        arguments: Which of the tests.
        files: Their files.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *arguments, *files],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=60 * MINUTES, check=False,
    )  # fmt: skip
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return done.returncode, failures[0] if failures else done.stdout[-2000:] + done.stderr[-2000:]


def write(path: Path, source: str) -> None:
    """Change a module, and forget what was compiled of it: a change of equal length within a second would go unseen.

    Args:
        path: Its file.
        source: What it holds from now on.
    """
    path.write_text(source, encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def catch(checkout: Path, fault: Fault) -> tuple[str, str]:
    """Which command catches a fault, and by which test.

    Args:
        checkout: A copy without faults; it is left so.
        fault: The fault.

    Returns:
        ``make test``, ``make soak``, ``nothing``, ``vanished`` when it can no longer be planted, or ``broken`` when the
        tests did not run; and a sentence.
    """
    path = checkout / fault.file
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    if whole.count(fault.old) != 1:
        return "vanished", f"{fault.file} holds {whole.count(fault.old)} times: {fault.old.strip().splitlines()[0]}"
    write(path, whole.replace(fault.old, fault.new))
    try:
        for command, arguments in COMMANDS.items():
            code, said = run_tests(checkout, arguments, fault.tests)
            if code == FAILED:
                return command, said.removeprefix("FAILED ").partition(" - ")[0]
            if code not in {PASSED, NOTHING_RAN}:
                return "broken", said
        return "nothing", f"{', '.join(fault.tests)} pass"
    except subprocess.TimeoutExpired:
        return "make test", f"the tests did not end within {MINUTES} minutes"
    finally:
        write(path, whole)


def main() -> int:
    """Plant the faults; 0 when enough are caught."""
    parser = argparse.ArgumentParser(description="plant faults, one at a time, and see which command catches them")
    parser.add_argument("--jobs", type=int, default=2, help="copies to work on at once")
    parser.add_argument("--only", default="", help="faults whose area or name holds this text")
    parser.add_argument(
        "--unchecked", action="store_true", help="do not first see whether the tests pass without faults"
    )
    given = parser.parse_args()
    faults = [fault for fault in FAULTS if given.only in f"{fault.area}: {fault.name}"]
    with tempfile.TemporaryDirectory(prefix="spice-mutants-") as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(given.jobs):
            copies.put(copy_checkout(Path(scratch, str(number))))
        if not given.unchecked:
            checkout = copies.get()
            code, said = run_tests(checkout, [], tuple(sorted({name for fault in faults for name in fault.tests})))
            copies.put(checkout)
            if code != PASSED:
                print(f"the tests do not pass without a fault, so they prove nothing:\n{said}")
                return 1

        def plant(fault: Fault) -> str:
            checkout, began = copies.get(), time.monotonic()
            try:
                command, why = catch(checkout, fault)
            finally:
                copies.put(checkout)
            print(f"{command:9}  {fault.area:9}  {fault.name}  ({time.monotonic() - began:.0f} s)  {why}", flush=True)
            return command

        with ThreadPoolExecutor(given.jobs) as pool:
            ends = Counter(pool.map(plant, faults))
    print(", ".join(f"{end}: {count}" for end, count in ends.most_common()), f"of {len(faults)} faults")
    caught = ends["make test"] + ends["make soak"]
    return 0 if caught == len(faults) and ends["make test"] >= SHARE * len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
