"""The mix of groups that targets imply: votes against their definition, floors, and a run that holds to them."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

import spice_select as ss
from spice_select.errors import ConfigError
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.selection import gradient_matrix, target_mix
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.target_mix import NEIGHBOURS, floors_for, mix_of, target_votes
from tests.fixtures.results import jsonl
from tests.library.test_greedy import pool
from tests.library.test_targets import target_rows


def slow_votes(gradients, targets, exclude):
    """Every target row's vote by its definition."""
    votes = np.zeros((len(targets), len(gradients)))
    allowed = [row for row in range(len(gradients)) if row not in exclude]
    for number, rows in enumerate(targets):
        for row in rows:
            lengths = np.maximum(np.linalg.norm(gradients, axis=1), 1e-300)
            near = sorted(allowed, key=lambda one: (-round(float(gradients[one] @ row / lengths[one]), 12), one))
            for one in near[:NEIGHBOURS]:
                votes[number, one] += 1 / min(NEIGHBOURS, len(near)) / len(rows)
    return votes


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("block", [8 * 5 * 3, 2**20])
def test_votes_equal_their_definition(monkeypatch, seed, block):
    monkeypatch.setattr(gradient_matrix, "BLOCK_BYTES", block)
    gradients, targets = pool(seed, 4 + 3 * seed, 5, duplicates=2, zeros=1), target_rows(seed, 3, 5)
    votes = target_votes(GradientMatrix(gradients), [torch.from_numpy(rows) for rows in targets], [1, 3])
    np.testing.assert_allclose(votes.numpy(), slow_votes(gradients, targets, {1, 3}), atol=1e-12)
    np.testing.assert_allclose(votes.sum(dim=1).numpy(), 1.0)


def test_of_a_large_target_evenly_spaced_rows_vote(monkeypatch):
    monkeypatch.setattr(target_mix, "MOST_VOTERS", 4)
    gradients, (target,) = pool(1, 60, 5), [pool(2, 10, 5)]
    votes = target_votes(GradientMatrix(gradients), [torch.from_numpy(target)])
    np.testing.assert_allclose(votes.numpy(), slow_votes(gradients, [target[::3]], set()), atol=1e-12)


def test_mixes_are_added_up_by_weight():
    votes = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert mix_of(votes, [1.0, 3.0], ["a", "b", "b"]) == {"a": 0.125, "b": 0.875}


@pytest.mark.parametrize(
    ("mix", "count", "available", "floors"),
    [
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10, {"a": 9, "b": 9, "c": 9}, {"a": 4, "b": 3, "c": 3}),
        ({"a": 0.9, "b": 0.1}, 5, {"a": 9, "b": 9}, {"a": 5}),
        ({"a": 0.75, "b": 0.25}, 8, {"a": 2, "b": 9}, {"a": 2, "b": 2}),
        ({"a": 1.0}, 3, {"a": 0}, {"a": 0}),
        ({}, 3, {}, {}),
    ],
)
def test_floors_make_the_mix_as_far_as_there_are_rows(mix, count, available, floors):
    assert floors_for(mix, count, Counter(available)) == floors


@pytest.fixture
def files(tmp_path):
    """A pool of sums and tales, and a target of both, three sums to one tale."""

    def record(group, number):
        text = f"{number} + {3 * number} = {4 * number}" if group == "sums" else "Once upon a time a fox sang. " * 3
        return {"instruction": f"{group} {number}: tell me", "output": f"{text}{number}", "group": group}

    rows = [record(group, number) for number in range(30) for group in ("sums", "tales")]
    wanted = [record("sums", number) for number in range(50, 59)] + [record("tales", number) for number in (60, 61, 62)]
    for name, records in (("pool", rows), ("mixed", wanted)):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl(records))
    return {name: tmp_path / f"{name}.jsonl" for name in ("pool", "mixed")}


def config(count=12, **quotas):
    settings = {"budget": {"count": count}, **({"quotas": quotas} if quotas else {})}
    screens = {"screens": {"near_duplicates": None}}
    return ss.RunConfig.model_validate({"selection": settings, "conditions": screens})


def test_a_run_reports_the_mix_and_holds_to_it(files, tmp_path):
    out = tmp_path / "out"
    result = run(
        files["pool"], config(column="group", from_targets=True), out, targets=[TargetFile("mixed", files["mixed"])]
    )
    groups = {group["name"]: group for group in result.summary["composition"]["groups"]["groups"]}
    # Three quarters are asked for and half of the pool are sums; the proxy was never trained.
    assert 0.55 < groups["sums"]["implied"] < 0.95
    assert sum(group["implied"] for group in groups.values()) == pytest.approx(1.0)
    assert groups["sums"]["targets"] == {"mixed": groups["sums"]["implied"]}
    floors = result.summary["composition"]["floors"]
    assert sum(floors.values()) == 12
    assert {name: group["selected"] for name, group in groups.items()} == floors
    assert floors["sums"] == round(12 * groups["sums"]["implied"])
    card = (out / "README.md").read_text()
    assert "| group | pool | selected | implied by the targets |" in card
    assert f"| sums | 50.0 % | {100 * floors['sums'] / 12:.1f} % | {100 * groups['sums']['implied']:.1f} % |" in card


def test_the_report_is_there_without_quotas_and_says_nothing_without_targets(files):
    told = run(files["pool"], config(), targets=[TargetFile("mixed", files["mixed"])]).summary["composition"]
    assert told["groups"]["groups"][0]["implied"] > 0.0
    assert "floors" not in told
    silent = run(files["pool"], config()).summary["composition"]
    assert "implied" not in json.dumps(silent)


@pytest.mark.parametrize(
    ("quotas", "budget", "named"),
    [
        ({"column": "group", "from_targets": True}, {"count": 3}, False),
        ({"from_targets": True}, {"count": 3}, True),
        ({"column": "group", "from_targets": True}, {"tokens": 300}, True),
    ],
)
def test_quotas_from_targets_need_targets_a_column_and_a_count(files, quotas, budget, named):
    settings = ss.RunConfig.model_validate({"selection": {"budget": budget, "quotas": quotas}})
    with pytest.raises(ConfigError) as caught:
        run(files["pool"], settings, targets=[TargetFile("mixed", files["mixed"])] if named else [])
    assert caught.value.errors[0]["pointer"] == "#/selection/quotas/from_targets"


def test_floors_beside_quotas_from_targets_and_the_bare_call_are_refused():
    with pytest.raises(ValueError, match="or from_targets"):
        config(column="group", from_targets=True, floors={"sums": 1})
    with pytest.raises(ConfigError, match="from_targets is for runs"):
        ss.select(pool(1, 9, 3), config(3, from_targets=True).selection, targets=target_rows(1, 1, 3))
