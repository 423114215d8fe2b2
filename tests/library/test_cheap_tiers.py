"""The methods bm25 and embedding: their scores, their picks, and whole runs, against slow twins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import spice_select as ss
from spice_select.config import Quotas, Screens
from spice_select.errors import ConfigError, PoolError
from spice_select.gradients.per_sample import measure
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.records.near_duplicates import words
from spice_select.records.word_vectors import word_vectors
from spice_select.results.verify import verify_folder
from spice_select.selection.bm25 import bm25_scores
from spice_select.selection.select import select
from tests.fixtures.results import alpaca, jsonl
from tests.reference.cheap_tiers import embedding_of, in_turn, okapi

VOCABULARY = ["sum", "prime", "Train", "loop", "été", "数", "a", "the", "stack", "ocean", "x"]


def texts(seed: int, count: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(VOCABULARY, random.integers(0, 30))) + "!" for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_bm25_is_the_formula(seed: int) -> None:
    pool, queries = texts(seed, 40), [*texts(seed + 100, 5), "unknown words", ""]
    expected = np.array([okapi([words(text) for text in pool], words(query)) for query in queries]).T
    np.testing.assert_allclose(bm25_scores(pool, queries).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_bm25_of_a_pool_without_words_is_zero() -> None:
    assert bm25_scores(["!!", "??"], ["some words", "!!"]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_word_vectors_do_not_depend_on_the_rest_and_are_never_zero() -> None:
    pool = [*texts(1, 10), "", "!?"]
    together = word_vectors(pool)
    assert (together == np.concatenate([word_vectors([text]) for text in pool])).all()
    assert (together >= 0).all()
    assert together.any(axis=1).all()
    assert (word_vectors(["One two"]) == word_vectors(["two, one."])).all()


@pytest.fixture(scope="module")
def proxy() -> Any:
    return load_proxy(ss.ProxyConfig(), ss.GradientConfig(dtype="float64"))


@pytest.mark.parametrize(("packed", "side"), [(False, "right"), (False, "left"), (True, "right")])
def test_embeddings_are_the_position_weighted_means(proxy: Any, packed: bool, side: Any) -> None:
    examples = ss.load_examples(alpaca(17), proxy.tokenizer, max_length=48)
    config = ss.GradientConfig(measure="embedding", dtype="float64", batch_tokens=128, max_length=48)
    measured = measure(
        proxy.model, examples, config, packed=packed, padding_side=side, feature_dtype=torch.float64, logit_bytes=1
    )
    expected = torch.stack([embedding_of(proxy.model, example.input_ids) for example in examples])
    torch.testing.assert_close(measured.features, expected, rtol=0, atol=1e-12)
    gradients = measure(proxy.model, examples, config.model_copy(update={"measure": "gradient"}))
    torch.testing.assert_close(measured.losses, gradients.losses, rtol=1e-12, atol=0)
    assert measured.label_tokens.tolist() == gradients.label_tokens.tolist()
    assert measured.block_sizes == (measured.features.shape[1],)
    raw = measure(proxy.model, examples, config.model_copy(update={"normalize": "none"}))
    torch.testing.assert_close(raw.norms, raw.features.double().norm(dim=1), rtol=1e-6, atol=0)
    assert raw.norms.std() > 1e-6


def cosine(pool: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return rows @ pool.T / np.linalg.norm(pool, axis=1) / np.linalg.norm(rows, axis=1)[:, None]


@pytest.mark.parametrize("seed", range(30))
def test_target_rows_pick_in_turn(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, d = int(random.integers(5, 60)), 6
    pool = random.standard_normal((n, d))
    pool[n // 2 :: 3] = pool[0]  # ties
    targets = [random.standard_normal((int(random.integers(1, 5)), d)) for _ in range(int(random.integers(1, 4)))]
    weights = random.uniform(0.5, 3.0, len(targets)).tolist()
    exclude = random.choice(n, n // 5, replace=False).tolist()
    must = [row for row in random.choice(n, 3, replace=False).tolist() if row not in exclude]
    groups = random.choice(["a", "b"], n).tolist()
    count = max(len(must), (n - len(exclude)) // 2)
    others = sum(groups[row] == "b" for row in range(n) if row not in exclude)
    cap = max(count // 3, count - others, sum(groups[row] == "a" for row in must))

    def may(row: int, picks: Any) -> bool:
        if row in exclude or (not set(must) <= set(picks) and row not in must):
            return False
        return groups[row] == "b" or sum(groups[pick] == "a" for pick in picks) < cap

    by_words = seed % 2
    scores = [
        random.integers(0, 9, (len(rows), n)).astype(float) if by_words else cosine(pool, rows) for rows in targets
    ]
    scores = [np.round(score, 12) for score in scores]
    expected, tasks = in_turn([score.tolist() for score in scores], weights, count, may)
    selection = select(
        pool,
        ss.SelectionConfig(
            budget=ss.Budget(count=count), method="bm25" if by_words else "embedding", quotas=Quotas(caps={"a": cap})
        ),
        targets=targets,
        target_weights=weights,
        target_scores=[torch.from_numpy(score.T.copy()) for score in scores] if by_words else None,
        groups=groups,
        must_include=must,
        exclude=exclude,
    )
    assert selection.indices == expected
    assert selection.tasks == tasks
    assert selection.scores == selection.relevances


def test_what_is_missing_is_refused() -> None:
    pool, targets = np.eye(4), np.eye(4)[:2]
    for method in ("bm25", "embedding"):
        with pytest.raises(ConfigError, match="needs a target"):
            select(pool, ss.SelectionConfig(budget=ss.Budget(count=2), method=method))
    words_only = ss.SelectionConfig(budget=ss.Budget(count=2), method="bm25")
    with pytest.raises(ConfigError, match="bm25_scores"):
        select(pool, words_only, targets=targets)
    for scores in (torch.zeros(4, 3), torch.full((4, 2), torch.nan)):
        with pytest.raises(PoolError, match="target_scores"):
            select(pool, words_only, targets=targets, target_scores=[scores])
    with pytest.raises(PoolError, match="like the pool"):
        select(pool, words_only.model_copy(update={"method": "embedding"}), targets=np.eye(3))


MATH = [{"instruction": f"What is {i} plus {i + 3}?", "output": f"The sum is {2 * i + 3}."} for i in range(12)]
SEA = [{"instruction": f"Name fish number {i}.", "output": f"A cod of the northern ocean, no {i}."} for i in range(12)]
POOL = [record for pair in zip(MATH, SEA, strict=True) for record in pair]
GRADIENTS = ss.GradientConfig(sketch_dim=4, max_length=64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "pool.jsonl").write_bytes(jsonl(POOL))
    (folder / "sums.jsonl").write_bytes(jsonl([{"instruction": "What is 70 plus 1?", "output": "The sum is 71."}]))
    (folder / "fish.jsonl").write_bytes(jsonl([{"instruction": "Name a fish.", "output": "A cod of the ocean."}]))
    return folder


def settings(method: Any, **more: Any) -> ss.RunConfig:
    selection = ss.SelectionConfig(budget=ss.Budget(count=6), method=method)
    return ss.RunConfig(**{"gradients": GRADIENTS, "selection": selection, **more})


@pytest.mark.parametrize("method", ["bm25", "embedding"])
def test_a_run_serves_its_targets_and_can_be_verified(method: str, files: Path, tmp_path: Path) -> None:
    targets = [TargetFile("sums", files / "sums.jsonl", 2.0), TargetFile("fish", files / "fish.jsonl")]
    result = run(files / "pool.jsonl", settings(method), tmp_path / "out", cache=tmp_path / "cache", targets=targets)
    assert [row.target for row in result.ranking] == ["sums", "fish", "sums", "sums", "fish", "sums"]
    if method == "bm25":
        assert [row.source_row % 2 for row in result.ranking] == [0, 1, 0, 0, 1, 0]
        pool = [words(" ".join(record.values())) for record in POOL]
        best = okapi(pool, words("Name a fish. A cod of the ocean."))
        assert result.ranking[1].score == pytest.approx(max(best), rel=1e-12)
    assert verify_folder(tmp_path / "out", files / "pool.jsonl").ok
    said = " ".join(result.summary["notes"])
    assert "not of gradients" in said
    assert said.split()[0] in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    names = {item["name"]: item for item in result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert ("sha256" in names["proxy-model"]["digest"]) == (method == "embedding")
    again = run(files / "pool.jsonl", settings(method), cache=tmp_path / "cache", targets=targets)
    assert again.gradients_reused
    assert [row.source_row for row in again.ranking] == [row.source_row for row in result.ranking]
    less = run(files / "pool.jsonl", settings("less"), cache=tmp_path / "cache", targets=targets)
    assert not less.gradients_reused, "what is kept for one method is nothing for another"


def test_settings_of_gradients_alone_do_not_name_embeddings(files: Path, tmp_path: Path) -> None:
    targets = [TargetFile("fish", files / "fish.jsonl")]
    run(files / "pool.jsonl", settings("embedding"), cache=tmp_path, targets=targets)
    other = GRADIENTS.model_copy(update={"sketch_dim": 9, "seed": 3, "lora_rank": 2})
    assert run(
        files / "pool.jsonl", settings("embedding", gradients=other), cache=tmp_path, targets=targets
    ).gradients_reused
    shorter = other.model_copy(update={"max_length": 32})
    again = run(files / "pool.jsonl", settings("embedding", gradients=shorter), cache=tmp_path, targets=targets)
    assert not again.gradients_reused


def test_bm25_loads_no_model(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "proxy"
    proxy = load_proxy(ss.ProxyConfig(), GRADIENTS)
    proxy.model.save_pretrained(folder)
    proxy.tokenizer.save_pretrained(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    targets = [TargetFile("fish", files / "fish.jsonl")]
    config = settings("bm25", proxy=ss.ProxyConfig(model=str(folder)))
    local = run(files / "pool.jsonl", config, cache=tmp_path / "cache", targets=targets)
    built_in = run(files / "pool.jsonl", settings("bm25"), cache=tmp_path / "cache", targets=targets)
    assert [row.source_row for row in local.ranking] == [row.source_row for row in built_in.ranking]
    assert [row.tokens for row in local.ranking] == [row.tokens for row in built_in.ranking]
    assert local.summary["proxy"]["weights_sha256"] is None
    with pytest.raises(AssertionError, match="a model was loaded"):
        run(
            files / "pool.jsonl",
            config.model_copy(update={"selection": settings("embedding").selection}),
            targets=targets,
        )


def test_constraints_and_screens_hold(files: Path, tmp_path: Path) -> None:
    targets = [TargetFile("fish", files / "fish.jsonl")]
    for method in ("bm25", "embedding"):
        conditions = ss.Conditions(must_include=[0], exclude=[1], screens=Screens(max_tokens=50, near_duplicates=0.95))
        budgeted = ss.SelectionConfig(budget=ss.Budget(tokens=300), method=method)
        config = settings(method, conditions=conditions, selection=budgeted)
        result = run(files / "pool.jsonl", config, cache=tmp_path / method, targets=targets)
        rows = [row.source_row for row in result.ranking]
        assert rows[0] == 0
        assert 1 not in rows
        assert sum(row.tokens for row in result.ranking) <= 300
        assert all(row.tokens <= 50 for row in result.ranking)


@pytest.mark.parametrize(
    ("method", "more", "pointer"),
    [
        ("bm25", {"gradients": GRADIENTS.model_copy(update={"warmup_steps": 2})}, "#/gradients/warmup_steps"),
        ("embedding", {"gradients": GRADIENTS.model_copy(update={"objective": "dpo"})}, "#/gradients/objective"),
        ("bm25", {"conditions": ss.Conditions(screens=Screens(loss_outliers=3.0))}, "#/screens/loss_outliers"),
        ("embedding", {"conditions": ss.Conditions(screens=Screens(loss_outliers=3.0))}, "#/screens/loss_outliers"),
    ],
)
def test_what_a_method_cannot_serve_is_refused(method: str, more: Any, pointer: str, files: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        run(files / "pool.jsonl", settings(method, **more), targets=[TargetFile("fish", files / "fish.jsonl")])
    assert refused.value.errors[0]["pointer"] == pointer
    with pytest.raises(ConfigError, match="needs a target") as refused:
        run(files / "pool.jsonl", settings(method))
    assert refused.value.errors[0]["pointer"] == "#/targets"


def test_a_preset_by_name_leaves_out_what_bm25_has_not(files: Path, tmp_path: Path) -> None:
    targets = [TargetFile("fish", files / "fish.jsonl")]
    result = run(files / "pool.jsonl", settings("bm25", preset="recommended"), tmp_path, targets=targets)
    assert any("takes no losses" in note for note in result.summary["notes"])
    statement = json.loads((tmp_path / "provenance.intoto.jsonl").read_text(encoding="utf-8"))
    assert '"measure":"words"' in json.dumps(statement, separators=(",", ":"))
