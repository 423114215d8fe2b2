"""What README evaluates ends in the verdict that README tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.packages import ROOT
from tests.fixtures.commands import Command


@pytest.mark.soak
def test_what_readme_evaluates_ends_in_a_verdict(spice: Command, tmp_path: Path) -> None:
    """The command of README: rows selected for the target train better than random ones of any kind."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    words = next(line for line in text.splitlines() if line.startswith("spice-select evaluate examples/")).split()[1:]
    words = [word.replace("examples/", f"{ROOT}/examples/") for word in words]
    found = spice(*words[: words.index("-o")], "-o", tmp_path, "--json").json()
    assert found["verdict"] == "better", found["sentence"]
    assert {entry["control"]: entry["low"] > 0 for entry in found["comparisons"]} == dict.fromkeys(
        ("random", "random_tokens", "random_length", "random_group", "stratified", "full"), True
    )
