"""Rows that are settled before the choice: against the slow twin, in a local run, and in what verify recomputes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import spice_select as ss
from spice_select.conditions import TargetConfig
from spice_select.errors import BudgetError, ConfigError, DatasetError, PoolError
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.results.verify import verify_folder
from spice_select.selection.select import random_control, random_curve, select
from spice_select.selection.validation import check_settings
from spice_select.storage.shards import read_shard
from tests.fixtures.examples import examples
from tests.fixtures.results import alpaca, jsonl
from tests.reference.selection import conditioned_select, utility

GRADIENTS = ss.GradientConfig(sketch_dim=16, max_length=64, batch_tokens=512)


def config(count: int, **conditions: Any) -> ss.RunConfig:
    selection = ss.SelectionConfig(budget=ss.Budget(count=count))
    return ss.RunConfig(gradients=GRADIENTS, selection=selection, conditions=ss.Conditions(**conditions))


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(6, 14),
    owned=st.integers(0, 4),
    penalty=st.sampled_from([0.0, 0.1, 2.0]),
)
def test_owned_forced_and_forbidden_rows_equal_the_slow_twin(seed: int, size: int, owned: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    pool, before = rng.normal(size=(size, 5)), rng.normal(size=(owned, 5))
    rows = rng.permutation(size).tolist()
    forced, forbidden, count = rows[:2], rows[2:4], size - 3
    settled = {"must_include": forced, "exclude": forbidden, "given": before if owned else None}
    selection = select(pool, ss.SelectionConfig(budget=ss.Budget(count=count), conflict_penalty=penalty), **settled)
    slow = conditioned_select(pool, before, alpha=1.0, penalty=penalty, count=count, forced=forced, forbidden=forbidden)
    assert selection.indices == slow
    added = utility(np.concatenate([before, pool[slow]]), 1.0) - utility(before, 1.0)
    assert selection.utility == pytest.approx(added, abs=1e-9)


def test_the_random_control_keeps_to_what_is_settled() -> None:
    rng = np.random.default_rng(5)
    pool, before = rng.normal(size=(30, 4)), rng.normal(size=(3, 4))
    settings_ = ss.SelectionConfig(budget=ss.Budget(count=26))
    only = [row for row in range(30) if row not in (7, 8, 9, 10)]
    settled = {"exclude": [7, 8, 9, 10], "must_include": [20, 2], "given": before}
    drawn = random_control(pool, settings_, 26, 3, **settled)
    everything = utility(np.concatenate([before, pool[only]]), 1.0) - utility(before, 1.0)
    assert drawn == pytest.approx(everything, rel=1e-12)
    curve = random_curve(pool, settings_, 26, 3, **settled)
    first = utility(np.concatenate([before, pool[[2]]]), 1.0), utility(np.concatenate([before, pool[[20]]]), 1.0)
    assert curve[0][0] == 1
    assert curve[0][1] + utility(before, 1.0) in [pytest.approx(value) for value in first]
    assert curve[-1] == (26, drawn)
    assert random_curve(pool, settings_, 0, 3) == []


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conditions") / "pool.jsonl"
    records: list[Any] = alpaca(24)
    records.insert(5, {"instruction": "Say nothing.", "output": ""})
    path.write_bytes(jsonl(records))
    return path


def test_a_local_run_adds_to_an_earlier_result(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = run(source, config(4), tmp_path / "first", cache=cache)
    owned = {row.source_row for row in first.ranking}
    free = next(row for row in range(25) if row not in owned and row != 5)
    both = run(
        source, config(5, must_include=[free], exclude=[20]), tmp_path / "both", cache=cache, given=tmp_path / "first"
    )
    rows = [row.source_row for row in both.ranking]
    assert rows[0] == free
    assert not {20, *owned} & set(rows)
    assert verify_folder(tmp_path / "both", source).ok
    card = (tmp_path / "both" / "README.md").read_text()
    assert "1 rows had to be included" in card
    assert "`spice:result/first` are owned already" in card
    with pytest.raises(ConfigError, match="adds to spice:result/first") as caught:
        run(source, config(3), cache=cache, given=tmp_path / "both")
    assert caught.value.errors[0]["pointer"] == "#/given"
    chain = [tmp_path / "both", tmp_path / "first"]
    third = run(source, config(3), tmp_path / "third", cache=cache, given=chain)
    assert not {*owned, *rows} & {row.source_row for row in third.ranking}, "what the base added to is owned too"
    assert "`spice:result/both`, `spice:result/first` are owned" in (tmp_path / "third" / "README.md").read_text()
    other = config(3).model_copy(update={"gradients": GRADIENTS.model_copy(update={"sketch_dim": 8})})
    with pytest.raises(ConfigError, match="other settings") as caught:
        run(source, other, given=tmp_path / "first")
    assert caught.value.errors[0]["pointer"] == "#/given"
    with pytest.raises(ConfigError, match="does not hold a result"):
        run(source, config(3), cache=cache, given=cache)
    with pytest.raises(PoolError, match="row 5 is no candidate"):
        run(source, config(3, must_include=[5]), cache=cache)


def test_a_local_run_chooses_what_is_closest_to_a_file(source: Path, tmp_path: Path) -> None:
    cache, near = tmp_path / "cache", tmp_path / "near.jsonl"
    near.write_bytes(jsonl(alpaca(40)[30:33]))
    less = config(6).model_copy(
        update={"selection": ss.SelectionConfig(budget=ss.Budget(count=6), method="less")}, deep=True
    )
    result = run(source, less, tmp_path / "out", cache=cache, targets=[TargetFile("near", near)])
    stated = result.statement["predicate"]["buildDefinition"]
    target = next(item for item in stated["resolvedDependencies"] if item["name"] == "target-dataset")
    assert target["annotations"]["gradientFingerprint"] != stated["internalParameters"]["gradientFingerprint"]
    stored = [read_shard(path).features.astype(np.float64) for path in (cache / "gradients").glob("*.safetensors")]
    matrices = sorted(stored, key=len, reverse=True)
    assert len(matrices) == 2
    assert len(matrices[1]) == 3, "the rows of the target"
    pool, wanted = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in matrices)
    assert result.selection.indices == np.argsort(-(pool @ wanted.mean(axis=0)), kind="stable")[:6].tolist()
    herding = config(3).model_copy(
        update={"selection": ss.SelectionConfig(budget=ss.Budget(count=6), method="herding")}
    )
    for wrong, file in ((less, None), (herding, near)):
        with pytest.raises(ConfigError) as caught:
            run(source, wrong, cache=cache, targets=[] if file is None else [TargetFile("file", file)])
        assert caught.value.errors[0]["pointer"] == "#/targets"


def test_verify_notices_conditions_that_were_not_kept(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(source, config(4), out)
    rows = [row.source_row for row in result.ranking]
    statement = out / "provenance.intoto.jsonl"
    said = json.loads(statement.read_text())

    def check(**conditions: Any) -> bool:
        stated = said["predicate"]["buildDefinition"]["externalParameters"]["config"]
        stated["conditions"] = {**stated["conditions"], "must_include": [], "exclude": [], **conditions}
        statement.write_text(json.dumps(said) + "\n")
        return next(check.ok for check in verify_folder(out).checks if check.name == "conditions")

    assert check()
    assert check(must_include=[rows[1], rows[0]])
    assert not check(must_include=[rows[2]])
    assert not check(exclude=[rows[3]])


@pytest.mark.parametrize(
    ("wrong", "error", "pointer"),
    [
        (config(3, must_include=[1, 2], exclude=[2]), ConfigError, "#/exclude/0"),
        (config(2, must_include=[1, 2, 3]), BudgetError, "#/must_include"),
        (config(9), BudgetError, "#/budget/count"),
    ],
    ids=["both", "more-than-the-budget", "more-than-is-left"],
)
def test_contradictions_are_refused_before_anything_is_computed(
    wrong: ss.RunConfig, error: type[ss.SpiceError], pointer: str
) -> None:
    with pytest.raises(error) as caught:
        check_settings(wrong, 10, unavailable=2)
    assert caught.value.errors[0]["pointer"] == pointer


@pytest.mark.parametrize("role", ["targets", "protect", "benchmarks"])
def test_a_file_beside_the_pool_that_cannot_be_read_is_refused_before_any_gradient(
    source: Path, tmp_path: Path, role: str
) -> None:
    bad, cache = tmp_path / "bad.jsonl", tmp_path / "cache"
    bad.write_bytes(jsonl([{"colour": "blue", "size": 3}, {"colour": "red", "size": 4}]))
    files: Any = [bad] if role == "benchmarks" else [TargetFile("wanted", bad)]
    with pytest.raises(DatasetError, match=re.escape(str(bad))) as caught:
        run(source, config(3), cache=cache, **{role: files})
    assert caught.value.code == "dataset-form-unknown"
    assert [found["pointer"] for found in caught.value.errors] == [f"#/{role}"]
    assert ("benchmark 'bad.jsonl'" if role == "benchmarks" else "'wanted'") in caught.value.detail
    assert not list(cache.glob("gradients/*"))


def test_a_target_that_the_objective_is_not_for_is_refused_before_any_gradient(tmp_path: Path) -> None:
    pairs = [{"prompt": f"Add {n} and 1", "chosen": f"{n + 1}", "rejected": f"{n}"} for n in range(12)]
    pool, plain, cache = tmp_path / "pairs.jsonl", tmp_path / "plain.jsonl", tmp_path / "cache"
    pool.write_bytes(jsonl(pairs))
    plain.write_bytes(jsonl(alpaca(3)))
    dpo = config(3).model_copy(update={"gradients": GRADIENTS.model_copy(update={"objective": "dpo"})})
    for role in ("targets", "protect"):
        files: Any = [TargetFile("wanted", plain)]
        with pytest.raises(ConfigError, match=r"'wanted'.*no preference data") as caught:
            run(pool, dpo, cache=cache, **{role: files})
        assert str(plain) in caught.value.detail
        assert caught.value.errors[0]["pointer"] == f"#/{role}"
        assert not list(cache.glob("gradients/*"))


def test_a_target_has_a_name_that_can_be_read():
    with pytest.raises(ValidationError, match="name"):
        TargetConfig(name=" \t", dataset_id="ds")
