"""Where a line belongs: sizes and names of files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.contracts.packages import ROOT

MOST_LINES = 400
# One migration makes every table of an unreleased version: a list, read from top to bottom.
LISTS = {"migrations/versions/2026_11_30_0001_first_tables.py": 600}
VAGUE = re.compile(r"(^|_)(util|utils|helper|helpers|manager|managers|misc|common)(_|\.|$)")
PLACES = ("spice_select", "app", "workers", "migrations", "tests", "benchmarks", "examples")


def sources() -> list[Path]:
    return sorted(path for place in PLACES for path in (ROOT / place).rglob("*.py") if "__pycache__" not in path.parts)


def test_files_are_short_enough_to_read() -> None:
    long = {
        name: lines
        for path in sources()
        if (lines := path.read_text(encoding="utf-8").count("\n"))
        > LISTS.get(name := path.relative_to(ROOT).as_posix(), MOST_LINES)
    }
    assert not long, f"split these, or argue in docs/decisions: {long}"


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert sources()
    assert not [str(path) for path in sources() if VAGUE.search(path.name)]


@pytest.mark.parametrize("name", ["utils.py", "string_helpers.py", "job_manager.py", "common.py", "misc.py"])
def test_vague_names_are_recognised(name: str) -> None:
    assert VAGUE.search(name)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.name != "conftest.py"
        and (text := path.read_text(encoding="utf-8").strip())
        and not text.startswith(('"""', 'r"""', "#!"))
    ]
    assert not silent


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [name for name in listed.stdout.split("\0") if name]


def test_nothing_generated_or_secret_is_tracked() -> None:
    names = tracked()
    assert not [name for name in names if re.search(r"(^|/)(\.env|.*\.(db|pyc|pem|key))$|__pycache__|^\.venv", name)]


# As git writes them, and written so that this file has none.
CONFLICT = re.compile(rb"^(?:<{7}|\|{7}|>{7})(?: |\r?$)", re.MULTILINE)


def test_no_conflict_was_left_in_a_file() -> None:
    left = [name for name in tracked() if (ROOT / name).is_file() and CONFLICT.search((ROOT / name).read_bytes())]
    assert not left


@pytest.mark.parametrize("side", [b"<" * 7 + b" HEAD", b"|" * 7, b">" * 7 + b" b5258f3 (A change)", b">" * 7 + b"\r"])
def test_conflicts_are_recognised(side: bytes) -> None:
    assert CONFLICT.search(b"before\n" + side + b"\nafter\n")
    assert not CONFLICT.search(b"before " + side + b"\n" + side[:6] + b"\n")
