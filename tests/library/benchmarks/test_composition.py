"""What the benchmark of selected rows counts, and that it goes the way of a run."""

from pathlib import Path

import pytest

from benchmarks.quality.composition import measure, shares
from benchmarks.quality.corpus import Draw, Row
from benchmarks.quality.scales import TASKS


def row(task: str, number: int, kind: str = "clean") -> Row:
    return Row(f"{task} {number}: what is {number} and {number * 7}?", f"It is {number * 8}.", task, "made up", kind)


def test_a_copy_is_a_repeat_only_beside_the_row_it_copies() -> None:
    first = row("math", 1)
    copy = Row(first.prompt, first.response, "math", "made up", "duplicate")
    pool = [first, copy, row("code", 2, "mismatched"), row("code", 3)]
    found = shares(pool, [0, 1, 2, 3])
    assert (found["clean"], found["repeat"], found["mismatched"]) == (0.5, 0.25, 0.25)
    assert (found["math"], found["code"], found["general"]) == (0.5, 0.5, 0.0)
    alone = shares(pool, [1, 3])
    assert (alone["clean"], alone["repeat"], alone["labelled duplicate"]) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize("target_rows", [2, 0])
def test_a_way_is_measured_as_a_run_with_files(tmp_path: Path, target_rows: int) -> None:
    pool = [row(task, number) for number in range(10) for task in TASKS]
    targets = {task: [row(task, 100 + number) for number in range(3)] for task in TASKS}
    draw = Draw(pool, targets, {}, {}, {})
    way = {"selection": {"target_rule": "relevance"}} if target_rows else {}
    picks = measure(draw, tmp_path / "pool", tmp_path, "builtin:tiny", target_rows, way)
    assert len(set(picks)) == 3
    if target_rows:
        assert len((tmp_path / "pool" / "math-2.jsonl").read_text("utf-8").splitlines()) == 2
