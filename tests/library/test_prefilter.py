"""A prefilter: which rows get gradients, against a slow twin, and what the result says of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

import spice_select as ss
from spice_select.config import Prefilter, Quotas, Screens
from spice_select.errors import BudgetError, ConfigError, SpiceError
from spice_select.fingerprint import embedding_settings
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.pipeline.verify_selection import Beside, verify_selection
from spice_select.records.near_duplicates import words
from spice_select.results.verify import verify_folder
from tests.fixtures.results import jsonl
from tests.reference.cheap_tiers import embedding_of, in_turn, okapi

MATH = [
    {"instruction": f"What is {i} plus {i * 7 % 5}?", "output": f"The sum is {i + i * 7 % 5}.", "kind": "math"}
    for i in range(20)
]
SEA = [
    {
        "instruction": f"Name fish number {i}.",
        "output": f"A cod of the northern ocean{', again' * (i % 4)}.",
        "kind": "sea",
    }
    for i in range(20)
]
POOL = [record for pair in zip(MATH, SEA, strict=True) for record in pair]
GRADIENTS = ss.GradientConfig(sketch_dim=4, max_length=96, dtype="float64")
SUMS = [{"instruction": "What is 70 plus 1?", "output": "The sum is 71."}, {"instruction": "Plus?", "output": "A sum."}]
FISH = [{"instruction": "Name a fish.", "output": "A cod of the ocean."}]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, rows in (("pool", POOL), ("sums", SUMS), ("fish", FISH), ("sea", SEA[:2])):
        (folder / f"{name}.jsonl").write_bytes(jsonl(rows))
    return folder


def settings(method: Any = "bm25", keep: float = 0.3, count: int = 5, **more: Any) -> ss.RunConfig:
    conditions = ss.Conditions(prefilter=Prefilter(method=method, keep=keep), **more.pop("conditions", {}))
    selection = ss.SelectionConfig(budget=more.pop("budget", ss.Budget(count=count)), **more.pop("selection", {}))
    return ss.RunConfig(gradients=GRADIENTS, selection=selection, conditions=conditions, **more)


def targets(files: Path) -> list[TargetFile]:
    return [TargetFile("sums", files / "sums.jsonl", 2.0), TargetFile("fish", files / "fish.jsonl")]


def text(record: dict[str, Any]) -> list[str]:
    return words(f"{record['instruction']} {record['output']}")


def by_hand(method: str) -> list[list[list[float]]]:
    """For each target and each of its rows the score of every row of the pool, the obvious way."""
    if method == "bm25":
        said = [text(record) for record in POOL]
        return [[okapi(said, text(row)) for row in rows] for rows in (SUMS, FISH)]
    proxy = load_proxy(ss.ProxyConfig(), embedding_settings(GRADIENTS))
    pool, *others = (
        torch.stack(
            [
                embedding_of(proxy.model, example.input_ids)
                for example in ss.load_examples(rows, proxy.tokenizer, max_length=96)
            ]
        )
        for rows in (POOL, SUMS, FISH)
    )
    return [(rows @ pool.T).tolist() for rows in others]


@pytest.mark.parametrize("method", ["bm25", "embedding"])
def test_the_rows_kept_are_those_that_the_target_rows_pick_in_turn(method: str, files: Path, tmp_path: Path) -> None:
    conditions = {"must_include": [39], "exclude": [0, 1]}
    config = settings(method, conditions=conditions)
    result = run(files / "pool.jsonl", config, tmp_path / "out", cache=tmp_path / "cache", targets=targets(files))

    def may(row: int, picks: Any) -> bool:
        return row not in {0, 1} and (39 in picks or row == 39)

    order, _ = in_turn(by_hand(method), [2.0, 1.0], len(POOL), may)
    kept = order[:12]
    left_out = {item["row"]: item["detail"] for item in result.excluded if item["code"] == "prefiltered"}
    assert sorted(left_out) == sorted(order[12:])
    assert [item["row"] for item in result.excluded if item["code"] == "exclude"] == [0, 1]
    assert f"rank 13 of 38 by {method}, the first 12 are kept; it scores" in left_out[order[12]]
    assert {row.source_row for row in result.ranking} <= set(kept)
    assert 39 in {row.source_row for row in result.ranking}
    said = result.summary["prefilter"]
    assert (said["ranked"], said["kept"], said["measured"]) == (38, 12, 12)
    evidence = {row["source_row"]: row for row in pq.read_table(tmp_path / "out" / "evidence.parquet").to_pylist()}
    assert evidence[order[12]]["code"] == "prefiltered"
    assert evidence[order[12]]["detail"] == left_out[order[12]]
    dependencies = result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    named = next(item for item in dependencies if item["name"] == "prefilter")
    assert named["digest"]["sha256"] == said["sha256"]
    assert verify_folder(tmp_path / "out", files / "pool.jsonl").ok
    beside = Beside(targets=[(one.name, one.file) for one in targets(files)])
    checks = verify_selection(tmp_path / "out", files / "pool.jsonl", tmp_path / "cache", beside)
    assert [check.ok for check in checks] == [True] * 3, checks
    again = run(files / "pool.jsonl", config, cache=tmp_path / "cache", targets=targets(files))
    assert again.gradients_reused
    assert again.summary["prefilter"] == said


def test_gradients_of_the_rows_kept_are_those_of_a_run_over_the_kept_rows_alone(files: Path, tmp_path: Path) -> None:
    config = settings(budget=ss.Budget(fraction=0.1), preset=None)
    result = run(files / "pool.jsonl", config, targets=targets(files))
    left_out = {item["row"] for item in result.excluded}
    kept = [row for row in range(len(POOL)) if row not in left_out]
    (tmp_path / "kept.jsonl").write_bytes(jsonl([POOL[row] for row in kept]))
    alone = config.model_copy(
        update={
            "conditions": ss.Conditions(),
            "selection": config.selection.model_copy(update={"budget": ss.Budget(count=4)}),
        }
    )
    twin = run(tmp_path / "kept.jsonl", alone, targets=targets(files))
    assert len(result.ranking) == 4, "a share is one of the whole pool"
    assert [row.source_row for row in result.ranking] == [kept[row.source_row] for row in twin.ranking]
    np.testing.assert_allclose([r.score for r in result.ranking], [r.score for r in twin.ranking], rtol=1e-6)


def test_rows_that_are_settled_take_no_place(files: Path, tmp_path: Path) -> None:
    first = run(files / "pool.jsonl", settings(), tmp_path / "first", cache=tmp_path / "c", targets=targets(files))
    owned = {row.source_row for row in first.ranking}
    beside = [TargetFile("sea", files / "sea.jsonl")]
    more = run(
        files / "pool.jsonl",
        settings(keep=0.25),
        tmp_path / "more",
        cache=tmp_path / "c",
        targets=targets(files),
        protect=beside,
        given=tmp_path / "first",
    )
    said = more.summary["prefilter"]
    assert said["kept"] == 10
    assert said["measured"] == 10 + len(owned | {1, 3})
    assert not owned & {row.source_row for row in more.ranking}
    assert {item["row"] for item in more.excluded if item["code"] == "in-protected"} == {1, 3}


def test_a_group_keeps_its_floor_and_an_emptied_group_is_said(files: Path, tmp_path: Path) -> None:
    beside = [TargetFile("sums", files / "sums.jsonl")]
    bare = settings(selection={"quotas": Quotas(column="kind", caps={"math": 9})}, keep=0.2)
    result = run(files / "pool.jsonl", bare, tmp_path / "out", targets=beside)
    assert result.summary["prefilter"]["emptied"] == ["sea"]
    assert any("sea" in note for note in result.summary["notes"])
    floored = settings(selection={"quotas": Quotas(column="kind", floors={"sea": 2})}, keep=0.2)
    result = run(files / "pool.jsonl", floored, targets=beside)
    assert result.summary["prefilter"]["emptied"] == []
    assert result.summary["prefilter"]["kept"] == 10
    assert sum(row.source_row % 2 for row in result.ranking) >= 2
    capped = settings(selection={"quotas": Quotas(column="kind", caps={"math": 3})}, keep=0.2)
    with pytest.raises(BudgetError, match="after the prefilter") as refused:
        run(files / "pool.jsonl", capped, targets=beside)
    assert refused.value.errors[0]["pointer"] == "#/prefilter/keep"


@pytest.mark.parametrize("keep", [0, 0.0, 1, 1.0, -0.1, 1.5, float("nan"), float("inf"), True, "0.2", None])
def test_a_share_is_between_0_and_1(keep: Any) -> None:
    with pytest.raises(ValidationError):
        Prefilter(method="bm25", keep=keep)


@pytest.mark.parametrize(
    ("more", "error", "pointer"),
    [
        ({"keep": 0.1}, BudgetError, "#/prefilter/keep"),
        ({"selection": {"method": "bm25"}}, ConfigError, "#/prefilter"),
        ({"selection": {"method": "random"}}, ConfigError, "#/prefilter"),
        ({"selection": {"scope": {"kind": "windows"}}}, ConfigError, "#/prefilter"),
        ({"conditions": {"screens": Screens(max_tokens=1)}}, BudgetError, "#/screens"),
    ],
)
def test_what_cannot_be_is_refused(more: Any, error: type[SpiceError], pointer: str, files: Path) -> None:
    with pytest.raises(error) as refused:
        run(files / "pool.jsonl", settings(**more), targets=targets(files))
    assert refused.value.errors[0]["pointer"] == pointer


def test_without_a_target_there_is_nothing_to_rank_for(files: Path) -> None:
    with pytest.raises(ConfigError, match="needs a target") as refused:
        run(files / "pool.jsonl", settings())
    assert refused.value.errors[0]["pointer"] == "#/prefilter"
