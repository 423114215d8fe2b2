"""The whole way on one machine, with the real proxy model: right rows, gradients reused, the same bytes every time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import spice_select as ss
from spice_select.errors import (
    BudgetError,
    CorruptShardError,
    DatasetError,
    EmptyPoolError,
    MismatchedShardError,
    Stopped,
)
from spice_select.ingest import IntakeOptions, read_dataset
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import RunProgress, RunResult, gradient_fingerprint, load_pool, measure_shard, run
from spice_select.results.result_folder import DATED, STATED
from spice_select.results.verify import verify_folder
from spice_select.storage.shards import GradientShard, write_shard
from tests.fixtures.results import alpaca, jsonl

GRADIENTS = ss.GradientConfig(sketch_dim=16, max_length=64, batch_tokens=512)


def config(**selection: Any) -> ss.RunConfig:
    budget = selection.pop("budget", ss.Budget(fraction=0.1))
    return ss.RunConfig(gradients=GRADIENTS, selection=ss.SelectionConfig(budget=budget, **selection), preset=None)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records: list[Any] = alpaca(60)
    records[4] = {"instruction": "", "input": "", "output": "nothing asked"}
    path = tmp_path_factory.mktemp("source") / "pool.jsonl"
    path.write_bytes(jsonl(records))
    return path


class First(NamedTuple):
    """A run with a cache, that several tests look at or repeat."""

    result: RunResult
    steps: list[RunProgress]
    cache: Path
    out: Path


@pytest.fixture(scope="module")
def first(source: Path, tmp_path_factory: pytest.TempPathFactory) -> First:
    folder, steps = tmp_path_factory.mktemp("first"), list[RunProgress]()
    result = run(source, config(), folder / "out", cache=folder / "cache", on_progress=steps.append)
    return First(result, steps, folder / "cache", folder / "out")


def test_a_run_chooses_what_the_parts_choose(source: Path, first: First) -> None:
    # The same by hand: every usable record, its gradient, the selection.
    records = [json.loads(line) for line in source.read_bytes().splitlines()]
    usable = [i for i, record in enumerate(records) if record["instruction"]]
    proxy = ss.load_proxy(ss.ProxyConfig(), GRADIENTS)
    examples = ss.load_examples([records[i] for i in usable], proxy.tokenizer, max_length=64)
    gradients = ss.collect_gradients(proxy.model, examples, GRADIENTS)
    expected = ss.select(gradients, config().selection)
    assert [row.source_row for row in first.result.ranking] == [usable[index] for index in expected.indices]
    assert [row.gain for row in first.result.ranking] == pytest.approx(expected.gains, rel=1e-6)
    assert (first.result.summary["selected"], first.result.summary["pool"]) == (6, 59)
    assert verify_folder(first.out, source).ok
    assert sorted(path.name for path in first.out.iterdir()) == sorted(first.result.files)


def test_progress_counts_every_sample_and_every_pick(first: First) -> None:
    order = list(dict.fromkeys(step.phase for step in first.steps))
    assert order == [
        "validating", "loading_model", "computing_gradients", "loading_gradients", "selecting", "writing_files",
    ]  # fmt: skip
    counted = [step for step in first.steps if step.phase == "computing_gradients"]
    assert (counted[-1].completed, counted[-1].total, counted[-1].unit) == (59, 59, "samples")
    assert [step.completed for step in first.steps if step.phase == "selecting"][-1] == 6
    assert set(first.result.summary["seconds"]) == set(order)


def test_another_budget_on_the_same_data_computes_no_gradient(source: Path, first: First, tmp_path: Path) -> None:
    steps: list[RunProgress] = []
    longer = run(source, config(budget=ss.Budget(count=20)), cache=first.cache, on_progress=steps.append)
    assert not first.result.gradients_reused
    assert longer.gradients_reused
    assert not {"loading_model", "computing_gradients"} & {step.phase for step in steps}
    assert longer.files == {}
    # A greedy choice of fewer is the beginning of a greedy choice of more.
    assert [row.source_row for row in longer.ranking[:6]] == [row.source_row for row in first.result.ranking]


def test_the_same_run_gives_the_same_bytes(source: Path, first: First, tmp_path: Path) -> None:
    again = run(source, config(), tmp_path / "out", cache=first.cache)
    for name in set(STATED) - DATED:
        assert (first.out / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    facts = again.statement["predicate"]["buildDefinition"]
    assert facts["internalParameters"]["gradientsReused"]
    assert (
        facts["resolvedDependencies"] == first.result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    )


def test_other_settings_or_a_rotten_shard_are_measured_again(source: Path, first: First, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(first.cache, cache)
    (shard,) = cache.rglob("*.safetensors")
    sound = shard.read_bytes()
    rotten = bytearray(sound)
    rotten[len(rotten) // 2] ^= 1
    shard.write_bytes(rotten)
    again = run(source, config(), cache=cache)
    assert not again.gradients_reused
    assert again.ranking == first.result.ranking
    assert shard.read_bytes() == sound
    other = ss.RunConfig(gradients=GRADIENTS.model_copy(update={"loss": "sum"}), selection=config().selection)
    assert not run(source, other, cache=cache).gradients_reused
    assert len(list((cache / "gradients").iterdir())) == 2


def test_a_budget_above_the_pool_is_refused_before_any_gradient(source: Path) -> None:
    steps: list[RunProgress] = []
    with pytest.raises(BudgetError, match="count is 60, the data set has 59 usable rows"):
        run(source, config(budget=ss.Budget(count=60)), on_progress=steps.append)
    assert {step.phase for step in steps} == {"validating"}


def test_a_token_budget_is_kept(source: Path, first: First) -> None:
    result = run(source, config(budget=ss.Budget(tokens=200)), cache=first.cache)
    assert 0 < sum(row.tokens for row in result.ranking) <= 200
    assert result.summary["tokens_selected"] == sum(row.tokens for row in result.ranking)


def test_stopping_keeps_the_picks_and_nothing_half_done(source: Path, first: First, tmp_path: Path) -> None:
    steps: list[RunProgress] = []
    with pytest.raises(Stopped):
        run(source, config(), tmp_path / "out", on_progress=steps.append, should_stop=lambda: len(steps) > 3)
    assert not (tmp_path / "out").exists()

    def after_three_picks() -> bool:
        return bool(steps) and steps[-1].phase == "selecting" and steps[-1].completed >= 3

    steps.clear()
    result = run(
        source, config(), tmp_path / "out", cache=first.cache, on_progress=steps.append, should_stop=after_three_picks
    )
    assert (result.selection.partial, result.summary["stop_reason"], result.summary["selected"]) == (
        True,
        "cancelled",
        3,
    )
    assert verify_folder(tmp_path / "out", source).ok


def test_a_deadline_keeps_the_picks_and_says_so(
    source: Path, first: First, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        run(source, config(), tmp_path / "out", deadline_seconds=0.0)
    now = [1000.0]
    monkeypatch.setattr("spice_select.pipeline.run.time", SimpleNamespace(monotonic=lambda: now[0]))

    def a_minute_passes_at_the_third_pick(step: RunProgress) -> None:
        if step.phase == "selecting" and step.completed == 3:
            now[0] += 60.0

    out = tmp_path / "out"
    tell = a_minute_passes_at_the_third_pick
    result = run(source, config(), out, cache=first.cache, on_progress=tell, deadline_seconds=59.0)
    assert (result.selection.partial, result.selection.stop_reason) == (True, "deadline")
    assert len(result.selection.indices) == 3
    assert "the deadline passed" in (out / "README.md").read_text()


def test_a_broken_file_is_a_data_set_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": \n')
    with pytest.raises(DatasetError) as caught:
        run(path, config())
    assert caught.value.code == "dataset-invalid-json"


def test_samples_that_become_no_candidate_are_listed_by_position(tmp_path: Path) -> None:
    records = alpaca(12)
    records[5]["instruction"] = "long " * 200
    records[9]["output"] = "long " * 200
    path = tmp_path / "pool.jsonl"
    path.write_bytes(jsonl(records))
    manifest = read_dataset(path, tmp_path / "rows", IntakeOptions())
    rows = tmp_path / "rows" / manifest.shards[0].name
    for overflow, excluded, truncated in (("exclude", [105, 109], []), ("truncate", [105], [109])):
        settings = GRADIENTS.model_copy(update={"overflow": overflow})
        proxy = load_proxy(ss.ProxyConfig(), settings)
        shard = measure_shard(rows, 100, proxy, settings, header={"fingerprint": "f"})
        assert [item["row"] for item in shard.excluded] == excluded
        assert shard.truncated == truncated
        assert shard.rows.tolist() == [100 + i for i in range(12) if 100 + i not in excluded]
        assert shard.features.shape[0] == len(shard.rows) == len(shard.tokens)
        assert sum(shard.header.pop("block_sizes")) == shard.features.shape[1]
        assert shard.header == {"fingerprint": "f", "halvings": 0, "batch_tokens": 512}


def test_a_shard_without_a_candidate_is_stored_and_passed_over(tmp_path: Path) -> None:
    records = [{"instruction": "long " * 200, "output": "x"} for _ in range(3)]
    path = tmp_path / "pool.jsonl"
    path.write_bytes(jsonl(records))
    manifest = read_dataset(path, tmp_path / "rows", IntakeOptions())
    proxy = load_proxy(ss.ProxyConfig(), GRADIENTS)
    rows = tmp_path / "rows" / manifest.shards[0].name
    empty = measure_shard(rows, 0, proxy, GRADIENTS, header={"fingerprint": "f"})
    write_shard(tmp_path / "empty", empty)
    with pytest.raises(EmptyPoolError, match="all 3 were excluded"):
        load_pool([(tmp_path / "empty", None)], "f")
    write_shard(tmp_path / "full", shard_of([3, 4], seed=1))
    pool = load_pool([(tmp_path / "empty", None), (tmp_path / "full", None)], "f")
    assert pool.positions.tolist() == [3, 4]
    assert len(pool.excluded) == 3


def shard_of(rows: list[int], *, seed: int, width: int = 5, fingerprint: str = "f", halvings: int = 0) -> GradientShard:
    generator = np.random.default_rng(seed)
    return GradientShard(
        features=generator.normal(size=(len(rows), width)).astype(np.float32),
        rows=np.array(rows),
        losses=generator.random(len(rows)),
        tokens=generator.integers(1, 99, len(rows)),
        label_tokens=generator.integers(1, 9, len(rows)),
        excluded=[],
        truncated=rows[:1],
        header={"fingerprint": fingerprint, "halvings": halvings},
    )


def test_a_pool_is_its_shards_in_order(tmp_path: Path, seed: int) -> None:
    shards = [shard_of([0, 1, 4], seed=seed, halvings=2), shard_of([5], seed=seed + 1), shard_of([7, 8], seed=seed + 2)]
    digests = [write_shard(tmp_path / str(i), shard) for i, shard in enumerate(shards)]
    pool = load_pool([(tmp_path / str(i), digest) for i, digest in enumerate(digests)], "f")
    assert pool.features.dtype == np.float32
    for name, merged in (
        ("features", pool.features), ("rows", pool.positions), ("losses", pool.losses), ("tokens", pool.tokens),
        ("label_tokens", pool.label_tokens),
    ):  # fmt: skip
        assert np.array_equal(merged, np.concatenate([getattr(shard, name) for shard in shards])), name
    assert pool.truncated == [0, 5, 7]
    assert pool.halvings == 2


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for name, shard in (
        ("a", shard_of([0, 1], seed=1)),
        ("b", shard_of([1, 2], seed=2)),
        ("wide", shard_of([5], seed=3, width=6)),
        ("other", shard_of([5], seed=3, fingerprint="g")),
    ):
        write_shard(tmp_path / name, shard)

    def load(*names: str, digest: str | None = None) -> None:
        load_pool([(tmp_path / name, digest) for name in names], "f")

    load("a")
    for names, message in (
        (("a", "b"), "order"),
        (("b", "a"), "order"),
        (("a", "wide"), "widths"),
        (("other",), "other"),
    ):
        with pytest.raises(MismatchedShardError, match=message):
            load(*names)
    with pytest.raises(CorruptShardError):
        load("a", digest="0" * 64)


def test_a_fingerprint_changes_with_everything_that_decides_a_gradient() -> None:
    base = {"rows_sha256": "a", "proxy_revision": "1", "config": GRADIENTS}
    changes = [
        {"rows_sha256": "b"},
        {"proxy_revision": "2"},
        *(
            {"config": GRADIENTS.model_copy(update=update)}
            for update in ({"seed": 1}, {"sketch_dim": 17}, {"loss": "sum"})
        ),
    ]
    prints = [gradient_fingerprint(**{**base, **change}) for change in [{}, *changes]]  # type: ignore[arg-type]
    assert len(set(prints)) == len(prints)
    assert prints[0] == gradient_fingerprint(**base)  # type: ignore[arg-type]
