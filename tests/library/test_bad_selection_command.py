"""Bad input to a selection on the command line, without a service: a status, one line, a code and a pointer."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.fixtures.commands import Command
from tests.fixtures.service import jsonl, sums

SMALL = ("--sketch-dim", "4", "--max-length", "128")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    (folder / "pool.jsonl").write_bytes(jsonl(sums(6)))
    (folder / "same.jsonl").write_bytes(jsonl(sums(1) * 4))
    return folder


@pytest.mark.parametrize(
    ("arguments", "status", "code", "pointer"),
    [
        (["--budget", "7"], 1, "budget-exceeds-pool", "#/budget/count"),
        (["--budget", "5", "--exclude", "0,3"], 1, "budget-exceeds-pool", "#/budget/count"),
        (["--budget", "2 tokens"], 1, "budget-exceeds-pool", "#/budget/tokens"),
        (["--budget", "1", "--must-include", "2,4"], 1, "budget-exceeds-pool", "#/must_include"),
        (["--budget", "2", "--must-include", "6"], 1, "pool-invalid", "#/must_include/0"),
        (["--budget", "2", "--must-include", "1", "--exclude", "1"], 2, "config-invalid", "#/exclude/0"),
        (["--budget", "2", "--method", "less"], 2, "config-invalid", "#/targets"),
        (["--budget", "50 tokens", "--window-size", "3"], 2, "config-invalid", "#/budget/tokens"),
        (["--budget", "2", "--stop-ratio", "0"], 2, "config-invalid", "#/selection/stop_ratio"),
        (["--budget", "2", "--stop-ratio", "1"], 2, "config-invalid", "#/selection/stop_ratio"),
        (["--budget", "2", "--alpha", "0"], 2, "config-invalid", "#/selection/alpha"),
        (["--budget", "2", "--alpha", "-3"], 2, "config-invalid", "#/selection/alpha"),
        (["--budget", "2", "--conflict-penalty", "-1"], 2, "config-invalid", "#/selection/conflict_penalty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_ends_with_a_code_and_a_pointer(
    spice: Command, folder: Path, arguments: list[str], status: int, code: str, pointer: str
) -> None:
    out = folder / "refused"
    ended = spice("run", folder / "pool.jsonl", *arguments, *SMALL, "--cache", folder / "c", "-o", out, "--json")
    error = ended.json()["error"]
    assert (ended.status, error["code"]) == (status, code), ended.err
    assert [finding["pointer"] for finding in error["errors"]] == [pointer]
    assert ended.err.startswith("error: ")
    assert not out.exists(), "nothing that could be taken for a result"


def test_identical_rows_are_chosen_in_the_order_of_the_file(spice: Command, folder: Path, tmp_path: Path) -> None:
    ended = spice("run", folder / "same.jsonl", "--budget", "3", *SMALL, "-o", tmp_path / "out", "--json")
    assert ended.status == 0, ended.err
    assert pq.read_table(tmp_path / "out" / "ranking.parquet")["source_row"].to_pylist() == [0, 1, 2]
