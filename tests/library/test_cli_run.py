"""``spice-select run``: what it prints of a result, beside ``jobs show``, and which folder it replaces."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.fixtures.commands import JOB, Command
from tests.fixtures.flaky import FlakyServer
from tests.fixtures.results import MadeResult, alpaca, jsonl


def test_a_run_and_jobs_show_say_which_rows_left_and_which_were_cut(
    service: FlakyServer, spice: Command, tmp_path: Path
) -> None:
    rows: list[Any] = alpaca(30)
    rows[4], rows[5] = dict(rows[3]), "no object"
    rows[6] = {"instruction": "Say it", "output": "a word and another " * 40}
    (tmp_path / "pool.jsonl").write_bytes(jsonl(rows))
    (tmp_path / "wanted.jsonl").write_bytes(jsonl([*rows[:1], *alpaca(34)[30:]]))
    arguments = ["run", tmp_path / "pool.jsonl", "--budget", "5", "-o", tmp_path / "out", "--max-length", "64",
                 "--cache", tmp_path / "cache", "--target", f"wanted={tmp_path / 'wanted.jsonl'}"]  # fmt: skip
    result = spice(*arguments, "--json").json()
    assert {"in-target", "near-duplicate"} <= result["excluded_by_code"].keys()
    assert result["truncated"] >= 1
    service.states[0] = {"id": JOB, "status": "succeeded", "result": result}
    said, shown = (
        dict(re.split(r" {2,}", line, maxsplit=1) for line in spice(*command).out.splitlines())
        for command in (arguments, ("jobs", "show", JOB))
    )
    assert said.pop("not usable") == "1 row: 1 not-an-object"
    del said["seconds"]
    total = sum(result["excluded_by_code"].values())
    assert said["excluded"].startswith(f"{total} rows: ")
    for code, count in result["excluded_by_code"].items():
        assert f"{count} {code}" in said["excluded"]
    assert said["cut"].startswith(f"{result['truncated']} of {result['pool']} rows, longer than max_length")
    assert said["utility"].endswith("at random")
    assert said["proven"].endswith("says nothing of noise")
    assert said.items() <= shown.items()


def test_a_run_replaces_only_an_earlier_result(spice: Command, made: MadeResult, tmp_path: Path) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    arguments = ["run", made.source, "--sketch-dim", "16", "--cache", cache, "-o"]
    first = spice(*arguments, out, "--budget", "4")
    assert (first.status, "replaced" in first.err) == (0, False)
    (out / "notes.txt").write_text("mine")
    assert (out / "evidence.parquet").exists()
    second = spice(*arguments, out, "--budget", "3", "--schedule", "periodic")
    assert second.status == 0, second.err
    assert f"the earlier result in {out} was replaced" in second.err
    assert not (out / "evidence.parquet").exists(), "that of the result before"
    assert (out / "notes.txt").read_text() == "mine"
    assert len((out / "selected.jsonl").read_text().splitlines()) == 3
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    refused = spice(*arguments, mine, "--budget", "3")
    assert refused.status == 2
    assert "holds no result of an earlier run" in refused.err
    assert [(path.name, path.read_text()) for path in mine.iterdir()] == [("README.md", "mine")]
