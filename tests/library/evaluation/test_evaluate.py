"""The commands, from a file to a verdict: with a budget, with a choice made earlier, and with what cannot be judged."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spice_select.records.near_duplicates import SIMILARITY, jaccard, word_triples
from tests.fixtures.commands import Command
from tests.fixtures.results import jsonl

UNGROUPED = ["--seeds", "2", "--epochs", "0.5", "--batch-rows", "4", "--json", "--max-length", "64"]
QUICK = [*UNGROUPED, "--group", "kind"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(5)
    rows = [
        {
            "instruction": f"Add {draw.randrange(9999)} and {draw.randrange(9999)} to {draw.randrange(9999)}.",
            "output": f"That is {draw.randrange(9999)} or {draw.randrange(9999)}.",
            "kind": "even" if number % 2 else "odd",
        }
        for number in range(120)
    ]
    rows += [dict(row) for row in rows[:20]]
    path = tmp_path_factory.mktemp("evaluate") / "rows.jsonl"
    path.write_bytes(jsonl(rows))
    return path


def test_from_a_budget_to_a_verdict_and_again_from_its_folder(spice: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = spice("evaluate", source, "--budget", "10%", "-o", out, *QUICK).json()
    assert found["verdict"] in {"better", "worse", "no_difference", "cannot_tell"}
    assert found["sentence"]
    assert not found["choice_saw_held_out_rows"]
    assert found["selected_rows"] == pq.read_metadata(out / "chosen" / "ranking.parquet").num_rows > 0
    assert [arm["name"] for arm in found["arms"]] == [
        "the choice", "random", "random_tokens", "random_length", "random_group", "stratified", "full", "junk",
        "one_group",
    ]  # fmt: skip
    assert json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["arms"][0]["loss"] > 0
    pool, held_out = (
        [word_triples("\n".join(list(json.loads(line).values())[:2])) for line in (out / name).read_text().splitlines()]
        for name in ("pool.jsonl", "held_out.jsonl")
    )
    assert len(pool) + len(held_out) == 140
    assert max(jaccard(one, other) for one in held_out for other in pool) < SIMILARITY
    again = spice(
        "evaluate", out / "pool.jsonl", "--job-folder", out / "chosen", "--held-out", out / "held_out.jsonl",
        "-o", tmp_path / "again", *QUICK,
    ).json()  # fmt: skip
    assert [arm["loss_by_seed"] for arm in again["arms"]] == [arm["loss_by_seed"] for arm in found["arms"]]


def test_a_choice_from_the_whole_file_is_judged_without_its_held_out_rows(
    spice: Command, source: Path, tmp_path: Path
) -> None:
    spice("run", source, "--budget", "30%", "-o", tmp_path / "chosen", "--json")
    ended = spice("evaluate", source, "--ranking", tmp_path / "chosen" / "ranking.parquet", "-o", tmp_path, *QUICK)
    found = ended.json()
    assert found["choice_saw_held_out_rows"]
    assert found["selected_rows"] + found["chosen_rows_left_out"] == 42
    assert found["pool_rows"] + found["held_out_rows"] == 140


def test_a_table_for_a_person(spice: Command, source: Path, tmp_path: Path) -> None:
    arguments = [argument for argument in QUICK if argument != "--json"]
    ended = spice("evaluate", source, "--budget", "10%", "-o", tmp_path / "out", *arguments)
    assert "held-out loss" in ended.out
    assert "verdict" in ended.out
    assert "14 held-out rows" in ended.out
    assert "builtin:tiny is untrained" in ended.err
    assert "only 14 held-out rows judge" in ended.err
    assert "training on the whole pool lowers the held-out loss" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--budget", "10%", "--ranking", __file__],
        ["--ranking", __file__, "--target", __file__],
        ["--budget", "10%", "--seeds", "1"],
    ],
    ids=["neither", "both", "target-of-a-result", "one-seed"],
)
def test_misuse_ends_with_status_2(spice: Command, source: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert spice("evaluate", source, "-o", tmp_path, *arguments).status == 2


def lines(path: Path) -> list[str]:
    return [json.dumps(json.loads(line)) for line in path.read_bytes().splitlines()]


def test_one_half_of_a_target_selects_and_the_other_half_judges(spice: Command, source: Path, tmp_path: Path) -> None:
    targets = {}
    for name, word in (("sums", "Add"), ("products", "Multiply")):
        rows = [
            {"instruction": f"{word} {71 * n} by {977 * n} slowly, please.", "output": f"{n} then {n * n * 7919}"}
            for n in range(1, 13)
        ]
        targets[name] = tmp_path / f"{name}.jsonl"
        targets[name].write_bytes(jsonl(rows))
    arguments = [f"--target={name}={path}" for name, path in targets.items()]
    found = spice("evaluate", source, "--budget", "10%", *arguments, "-o", tmp_path / "out", *UNGROUPED).json()
    halves = sorted((tmp_path / "out" / "targets").iterdir())
    assert len(halves) == 2
    parts = [lines(half / name) for half in halves for name in ("select.jsonl", "held_out.jsonl")]
    assert sorted(row for part in parts for row in part) == sorted(
        row for path in targets.values() for row in lines(path)
    )
    assert min(len(part) for part in parts) > 0
    assert found["held_out_rows"] == len(parts[1]) + len(parts[3])
    assert set(found["comparisons"][0]["groups"]) == set(targets), "one line for each task"
    assert not found["choice_saw_held_out_rows"]
    metadata = json.loads((tmp_path / "out" / "chosen" / "provenance.intoto.jsonl").read_text())
    told = metadata["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert sum("select.jsonl" in json.dumps(one) for one in told) == 2, "the job was given the halves"


def test_a_target_of_three_rows_cannot_do_both(spice: Command, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "few.jsonl"
    target.write_bytes(jsonl([{"instruction": f"Say {n}.", "output": f"{n}."} for n in range(3)]))
    ended = spice("evaluate", source, "--budget", "10%", "--target", target, "-o", tmp_path / "out", *QUICK)
    assert ended.status == 2
    assert "#/targets" in ended.err


def test_with_rows_to_judge_by_the_pool_has_nothing_like_them(spice: Command, source: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "unseen.jsonl"
    held_out.write_bytes("".join(line + "\n" for line in lines(source)[:10]).encode())
    target = tmp_path / "wanted.jsonl"
    target.write_bytes(jsonl([{"instruction": f"Say {n}.", "output": f"{n}."} for n in range(3)]))
    found = spice(
        "evaluate",
        source,
        "--budget",
        "10%",
        "--target",
        target,
        "--held-out",
        held_out,
        "-o",
        tmp_path / "out",
        *QUICK,
    ).json()
    assert len(lines(tmp_path / "out" / "pool.jsonl")) == 120, "ten rows and their ten copies are gone"
    assert found["held_out_rows"] == 10
    assert set(found["comparisons"][0]["groups"]) == {"even", "odd"}


def test_a_ranking_of_another_file_is_refused(spice: Command, source: Path, tmp_path: Path) -> None:
    spice("run", source, "--budget", "10%", "-o", tmp_path / "chosen", "--json")
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"\n".join(reversed(source.read_bytes().splitlines())))
    ended = spice("evaluate", other, "--job-folder", tmp_path / "chosen", "-o", tmp_path, *QUICK)
    assert ended.status == 1
    assert ended.json()["error"]["code"] == "artifact-mismatch"
