"""The published comparison says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.quality.render import plot, report

FOLDER = Path(__file__).parents[2] / "benchmarks" / "quality"


def test_the_report_is_written_from_the_figures() -> None:
    found = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == report(found)
    for stage in found["stages"]:
        assert (FOLDER / f"{stage['model']}.svg").read_text(encoding="utf-8") == plot(stage)


def test_a_verdict_follows_its_interval() -> None:
    found = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    for arm in (arm for stage in found["stages"] for arm in stage["arms"] if arm["advantage"] is not None):
        low, high = arm["advantage"]["low"], arm["advantage"]["high"]
        assert arm["sign"] == (1 if low > 0 else -1 if high < 0 else 0), arm["name"]
