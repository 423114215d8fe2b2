"""Targets of a local run: from files to picks, with what the files of the result say about them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import spice_select as ss
from spice_select.errors import ConfigError, PoolError
from spice_select.pipeline import local
from spice_select.pipeline.pool import open_pool
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.results.verify import verify_folder
from spice_select.storage.shards import read_shard
from tests.fixtures.results import alpaca, jsonl


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A pool of 40 rows of which the first two are target rows, and two targets."""
    rows = alpaca(60)
    written = {"pool": rows[:40], "short": [*rows[:2], *rows[40:44]], "long": rows[44:49]}
    for name, records in written.items():
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl(records))
    return {name: tmp_path / f"{name}.jsonl" for name in written}


def config(count: int, **selection: object) -> ss.RunConfig:
    return ss.RunConfig.model_validate({"selection": {"budget": {"count": count}, **selection}})


def wanted(files: dict[str, Path], *names: str) -> list[TargetFile]:
    return [TargetFile(name, files[name], 1.0 + place) for place, name in enumerate(names)]


@pytest.mark.parametrize("rule", ["matching", "relevance"])
def test_a_run_selects_what_the_library_selects_from_its_stored_gradients(files, tmp_path, rule):
    out, cache = tmp_path / "out", tmp_path / "cache"
    result = run(files["pool"], config(9, target_rule=rule), out, cache=cache, targets=wanted(files, "short", "long"))
    shards = sorted((read_shard(path) for path in (cache / "gradients").iterdir()), key=lambda shard: -len(shard.rows))
    assert [len(shard.rows) for shard in shards] == [40, 6, 5]
    sizes = shards[0].header["block_sizes"]
    assert sum(sizes) == shards[0].features.shape[1]
    targets = [shard.features for shard in shards[1:]]
    rows, others = ss.whiten(shards[0].features, targets, block_sizes=sizes, damping=0.1)
    expected = ss.select(
        rows.float(),
        config(9, target_rule=rule).selection,
        targets=others,
        target_weights=[1.0, 2.0],
        exclude=[0, 1],
    )
    assert result.selection.indices == expected.indices
    assert result.selection.tasks == expected.tasks
    assert [row.target for row in result.ranking] == [("short", "long")[task] for task in expected.tasks]
    served = result.summary["targets"]
    assert [(one["name"], one["rows"], one["weight"]) for one in served["sets"]] == [
        ("short", 6, 1.0),
        ("long", 5, 2.0),
    ]
    assert [one["selected"] for one in served["sets"]] == [expected.tasks.count(task) for task in (0, 1)]
    assert served["relevance"]["selected"] == pytest.approx(np.mean(expected.relevances), rel=1e-4)
    assert served["relevance"]["pool"] < served["relevance"]["selected"]
    assert "| long | 5 | 2 |" in (out / "README.md").read_text(encoding="utf-8")
    table = pq.read_table(out / "ranking.parquet").to_pylist()
    assert [row["relevance"] for row in table] == pytest.approx(expected.relevances, rel=1e-5, abs=1e-6)
    assert verify_folder(out, files["pool"]).ok


def test_rows_of_the_pool_that_are_in_a_target_leave_it_and_are_listed(files, tmp_path):
    result = run(files["pool"], config(38), tmp_path / "out", targets=wanted(files, "short"))
    assert [(item["row"], item["code"]) for item in result.excluded] == [(0, "in-target"), (1, "in-target")]
    assert sorted(row.source_row for row in result.ranking) == list(range(2, 40))
    assert result.summary["excluded_by_code"] == {"in-target": 2}
    stated = result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    target = next(item for item in stated if item["name"] == "target-dataset")
    assert target["annotations"]["target"] == "short"
    assert target["annotations"]["rows"] == 6


def test_a_pool_on_the_disk_makes_the_same_picks(files, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    inside = run(files["pool"], config(9), cache=cache, targets=wanted(files, "short", "long"))
    monkeypatch.setattr(local, "pool_within", lambda shards, prints, _bytes: open_pool(shards, prints))
    outside = run(files["pool"], config(9), cache=cache, targets=wanted(files, "short", "long"))
    assert outside.gradients_reused
    assert outside.selection.indices == inside.selection.indices
    np.testing.assert_allclose(outside.selection.scores, inside.selection.scores, rtol=1e-6)


def test_a_result_without_a_target_says_so_first(files, tmp_path):
    result = run(files["pool"], config(5), tmp_path / "out")
    assert next(iter(result.summary)) == "notice"
    assert result.summary["notice"].startswith("No target was given")
    body = (tmp_path / "out" / "README.md").read_text().split("---\n")[-1].strip().splitlines()
    assert body[2] == result.summary["notice"]
    assert "notice" not in run(files["pool"], config(5), targets=wanted(files, "short")).summary


def test_without_whitening_the_gradients_are_taken_as_they_are(files, tmp_path):
    plain = run(files["pool"], config(9, whitening_damping=None), targets=wanted(files, "short"), cache=tmp_path / "c")
    white = run(files["pool"], config(9), targets=wanted(files, "short"), cache=tmp_path / "c")
    assert plain.selection.scores != white.selection.scores


def test_the_pool_as_its_own_target_leaves_nothing(files):
    with pytest.raises(PoolError) as caught:
        run(files["pool"], config(3), targets=[TargetFile("all", files["pool"])])
    assert caught.value.errors[0]["pointer"] == "#/targets"


@pytest.mark.parametrize(
    ("names", "weights", "pointer"),
    [
        (["a", "b", "a"], [1.0, 1.0, 1.0], "#/targets/2/name"),
        (["a", "b"], [1.0, 0.0], "#/targets/1/weight"),
        (["a"], [float("nan")], "#/targets/0/weight"),
        ([str(number) for number in range(33)], [1.0] * 33, "#/targets"),
    ],
)
def test_bad_targets_are_refused_before_anything_is_measured(files, names, weights, pointer):
    targets = [TargetFile(name, files["short"], weight) for name, weight in zip(names, weights, strict=True)]
    with pytest.raises(ConfigError) as caught:
        run(files["pool"], config(3), targets=targets)
    assert caught.value.errors[0]["pointer"] == pointer


def test_whitened_on_the_fly_is_whitened_at_once():
    torch.manual_seed(0)
    rows = torch.randn(30, 8)
    from spice_select.selection.gradient_matrix import GradientMatrix
    from spice_select.selection.whitening import Whitening, second_moments

    matrix = GradientMatrix(rows)
    view = matrix.whitened(Whitening(second_moments(matrix, [3, 5]), 0.1))
    expected, _ = ss.whiten(rows, block_sizes=[3, 5])
    chosen = torch.tensor([4, 1, 29])
    torch.testing.assert_close(view.take(chosen), expected[chosen], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(view.take_single(chosen), expected[chosen].float(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.cat([block for _, block in view.blocks()]), expected, rtol=1e-6, atol=1e-7)


def test_protected_sets_are_charged_by_whitened_gradients_and_reported(files, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "cache"
    targets, protect = wanted(files, "long"), [TargetFile("kept", files["short"], 2.0)]
    settings = config(9, protect_weight=3.0)
    result = run(files["pool"], settings, out, cache=cache, targets=targets, protect=protect)
    shards = sorted((read_shard(path) for path in (cache / "gradients").iterdir()), key=lambda shard: -len(shard.rows))
    pool, kept, wanted_rows = (shard.features for shard in shards)
    sizes = shards[0].header["block_sizes"]
    rows, (goal, protected) = ss.whiten(pool, [wanted_rows, kept], block_sizes=sizes, damping=0.1)
    expected = ss.select(
        rows.float(),
        settings.selection.model_copy(update={"protect_weight": 6.0}),
        targets=[goal],
        protect=[protected],
        exclude=[0, 1],
    )
    assert result.selection.indices == expected.indices
    (report,) = result.summary["protected"]
    assert (report["name"], report["rows"], report["weight"]) == ("kept", 6, 2.0)
    assert report["pool"]["rows"] == 38
    assert report["selected"]["against"] == expected.opposition[0].selected.against
    assert report["pool"]["worst_cosine"] == pytest.approx(expected.opposition[0].pool.worst_cosine, abs=1e-5)
    assert [(item["row"], item["code"]) for item in result.excluded] == [(0, "in-protected"), (1, "in-protected")]
    stated = result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    (dependency,) = [item for item in stated if item["name"] == "protected-dataset"]
    assert (dependency["annotations"]["protected"], dependency["annotations"]["rows"]) == ("kept", 6)
    card = (out / "README.md").read_text()
    assert "conflict with the target's mean - what the row paid for protected sets)" in card
    assert f"| kept | 6 | {report['selected']['against']} of 9 | {report['pool']['against']} of 38 |" in card
    assert verify_folder(out, files["pool"]).ok


def test_without_a_target_only_the_charge_is_whitened(files, tmp_path):
    cache, protect = tmp_path / "cache", [TargetFile("kept", files["short"])]
    free = run(files["pool"], config(9), cache=cache)
    told = run(files["pool"], config(9, protect_weight=0.0), cache=cache, protect=protect)
    held = run(files["pool"], config(9, protect_weight=100.0), cache=cache, protect=protect)
    excluded = {row.source_row for row in free.ranking} & {0, 1}
    assert excluded or [row.source_row for row in told.ranking] == [row.source_row for row in free.ranking]
    assert held.summary["protected"][0]["selected"]["against"] < told.summary["protected"][0]["selected"]["against"]
    assert held.summary["notice"].startswith("No target was given")


@pytest.mark.parametrize(
    ("names", "weight", "method", "pointer"),
    [
        (["a", "b", "a"], 1.0, "spice", "#/protect/2/name"),
        (["long"], 1.0, "spice", "#/protect/0/name"),
        (["a"], 0.0, "spice", "#/protect/0/weight"),
        ([str(number) for number in range(9)], 1.0, "spice", "#/protect"),
        (["a"], 1.0, "less", "#/protect"),
        (["same"], 1.0, "spice", "#/protect/0"),
    ],
)
def test_bad_protected_sets_are_refused_before_anything_is_measured(files, names, weight, method, pointer):
    protect = [TargetFile(name, files["long" if name == "same" else "short"], weight) for name in names]
    with pytest.raises(ConfigError) as caught:
        run(files["pool"], config(3, method=method), targets=wanted(files, "long"), protect=protect)
    assert caught.value.errors[0]["pointer"] == pointer


def test_the_rows_of_a_target_in_another_form_cannot_be_protected(files, tmp_path):
    import json

    rows = [json.loads(line) for line in files["long"].read_text().splitlines()]
    other = tmp_path / "other.jsonl"
    other.write_bytes(jsonl([{**row, "beside": 1} for row in reversed(rows)]))
    with pytest.raises(ConfigError, match="has the same rows as the target 'long'") as caught:
        run(files["pool"], config(3), targets=wanted(files, "long"), protect=[TargetFile("other", other)])
    assert caught.value.errors[0]["pointer"] == "#/protect/0"


def test_the_pool_as_its_own_protected_set_leaves_nothing(files):
    with pytest.raises(PoolError) as caught:
        run(files["pool"], config(3), protect=[TargetFile("all", files["pool"])])
    assert caught.value.errors[0]["pointer"] == "#/protect"


def test_a_data_set_that_was_appended_to_keeps_its_statistics_where_asked(files, tmp_path):
    cache, longer = tmp_path / "cache", tmp_path / "longer.jsonl"
    longer.write_bytes(files["pool"].read_bytes() + jsonl(alpaca(90)[60:]))
    targets = wanted(files, "long")
    before = run(files["pool"], config(38), cache=cache, targets=targets)
    relevance = {row.source_row: row.relevance for row in before.ranking}

    def relevances(**settings):
        result = run(longer, config(70, **settings), cache=cache, targets=targets)
        return {row.source_row: row.relevance for row in result.ranking if row.source_row in relevance}

    kept, refreshed = relevances(whitening_rows=40), relevances()
    assert len(kept) == 38
    assert kept == pytest.approx(relevance, abs=1e-6)
    assert max(abs(refreshed[row] - relevance[row]) for row in relevance) > 1e-4
    assert relevances(whitening_rows=70) == pytest.approx(refreshed, abs=1e-12)


def test_more_whitening_rows_than_there_are_is_refused(files):
    with pytest.raises(ConfigError) as caught:
        run(files["pool"], config(3, whitening_rows=41), targets=wanted(files, "long"))
    assert caught.value.errors[0]["pointer"] == "#/selection/whitening_rows"


@pytest.mark.parametrize("count", [1, 7, 29, 30])
def test_moments_of_the_first_rows_are_those_of_a_pool_of_them(monkeypatch, count):
    from spice_select.selection import gradient_matrix
    from spice_select.selection.whitening import second_moments

    monkeypatch.setattr(gradient_matrix, "BLOCK_BYTES", 8 * 8 * 4)
    rows = np.random.default_rng(0).standard_normal((30, 8))
    rows[3] = 0.0
    whole = second_moments(gradient_matrix.GradientMatrix(rows), [3, 5], count)
    alone = second_moments(gradient_matrix.GradientMatrix(rows[:count]), [3, 5])
    assert whole.count == alone.count
    for one, other in zip(whole.moments, alone.moments, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
