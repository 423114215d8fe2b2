"""Warm-up of the proxy: what is trained, on which rows, to which bytes, and what the gradients are afterwards."""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spice_select as ss
from spice_select.config import Tuning
from spice_select.errors import CorruptShardError, MismatchedShardError, Stopped
from spice_select.fingerprint import gradient_fingerprint, warmup_fingerprint
from spice_select.gradients.per_sample import measure
from spice_select.gradients.targets import find_targets
from spice_select.ingest import read_dataset
from spice_select.models.lora import LowRank, adapter_weights, attach
from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer
from spice_select.pipeline.run import RunProgress, TargetFile, run
from spice_select.pipeline.warmup import read_warmup, warmup_examples
from spice_select.results.verify import verify_folder
from spice_select.storage.shards import read_shard
from spice_select.training import steps
from spice_select.training.steps import Schedule, steps_of
from spice_select.training.warmup import put_on, warm_up
from tests.fixtures.results import alpaca, jsonl
from tests.library.families import build, float64_throughout, nasty_examples
from tests.reference import selection as reference
from tests.reference.evaluation import plain_training


def settings(**given: Any) -> ss.GradientConfig:
    tuning = Tuning(**{"learning_rate": 1e-2, "step_tokens": 60, **given.pop("tuning", {})})
    base = {
        "warmup_steps": 5,
        "lora_rank": 3,
        "lora_alpha": 6.0,
        "dtype": "float64",
        "sketch_dim": None,
        "normalize": "none",
    }
    return ss.GradientConfig(**{**base, **given}, tuning=tuning)


def sample(seed: int) -> list[ss.Example]:
    return [example for example in nasty_examples(seed) if len(example.input_ids) > 1]


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_a_warm_up_is_a_plain_loop(weights: str) -> None:
    model, examples = build("qwen2"), sample(1)
    config = settings(tuning={"weights": weights, "weight_decay": 0.1}, seed=4)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    twin = copy.deepcopy(model)
    if weights == "lora":
        twin.requires_grad_(False)
        attach(twin, 3, 6.0, 4)
    steps = list(steps_of([len(e.input_ids) for e in examples], Schedule(5, "tokens", 0, 60), 4))
    with float64_throughout():
        tuned, spent = warm_up(model, examples, config)
        plain_training(twin, examples, steps, rate=1e-2, decay=0.1, clip=1.0)
    assert (spent.steps, spent.tokens) == (5, sum(len(examples[row].input_ids) for step in steps for row in step))
    expected = adapter_weights(twin) if weights == "lora" else dict(twin.named_parameters())
    assert list(tuned) == list(expected)
    for name, weight in expected.items():
        assert np.allclose(tuned[name], weight.detach().numpy(), rtol=0, atol=1e-7), name
    assert {name: weight.tolist() for name, weight in model.state_dict().items()} == {
        name: weight.tolist() for name, weight in before.items()
    }, "the model is handed back as it was"


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_both_halves_of_warmed_up_adapters_have_a_gradient_and_it_is_that_of_autograd(family: str) -> None:
    model, examples, config = build(family), sample(2), settings(targets="lora")
    fresh = copy.deepcopy(model)
    attach(fresh, 3, 6.0, config.seed)
    tuned, _ = warm_up(model, examples, config)
    put_on(model, tuned, config)
    halves = {}
    for name, adapted in (("fresh", fresh), ("warm", model)):
        targets = find_targets(adapted, config)
        weights = [target.weight for target in targets]
        assert [weight.data_ptr() for weight in weights] == [w.data_ptr() for w in adapter_weights(adapted).values()]
        with float64_throughout():
            found = measure(adapted, examples, config, feature_dtype=torch.float64).features
            expected, _ = reference.one_at_a_time_gradients(adapted, examples, weights, mean=True)
        assert float((found - expected).norm() / expected.norm()) < 1e-9
        columns = {
            half: torch.cat([torch.arange(t.start, t.start + t.size) for t in targets if f".lora_{half}." in t.name])
            for half in "AB"
        }
        halves[name] = {half: float(found[:, places].norm()) for half, places in columns.items()}
    assert not halves["fresh"]["A"]
    assert halves["fresh"]["B"]
    assert halves["warm"]["A"] > 0.01 * halves["warm"]["B"]


def test_linear_gradients_after_a_warm_up_of_adapters_are_those_of_the_merged_model() -> None:
    model, examples, config = build("llama"), sample(3), settings(targets="linear", sketch_dim=16)
    merged = copy.deepcopy(model)
    tuned, _ = warm_up(model, examples, config)
    put_on(model, tuned, config)
    for name, module in model.named_modules():
        if isinstance(module, LowRank):
            change = module.scale * module.lora_B["default"].weight @ module.lora_A["default"].weight
            merged.get_submodule(name).weight.data.add_(change.data)
    with float64_throughout():
        one, other = (measure(m, examples, config, feature_dtype=torch.float64).features for m in (model, merged))
    assert float((one - other).norm() / other.norm()) < 1e-9
    assert float((measure(build("llama"), examples, config).features - other).norm()) > 0.01


def test_a_warm_up_gives_the_same_bytes_and_leaves_the_global_seed() -> None:
    model, before = build_tiny_model(), torch.random.get_rng_state()
    draw = random.Random(0)
    rows = [[draw.randrange(900) for _ in range(draw.randrange(4, 60))] for _ in range(40)]
    examples = [ss.Example(ids, ids) for ids in rows]
    threads, found = torch.get_num_threads(), []
    try:
        for count, seed in ((1, 0), (1, 0), (2, 0), (1, 1)):
            torch.set_num_threads(count)
            tuned, _ = warm_up(
                model, examples, settings(dtype="float32", seed=seed, warmup_steps=2, tuning={"step_tokens": 300})
            )
            found.append(tuned)
    finally:
        torch.set_num_threads(threads)
    again, two_threads, other_seed = (
        {name: (found[0][name], weights[name]) for name in weights} for weights in found[1:]
    )
    assert all(one.tobytes() == other.tobytes() for one, other in again.values())
    # Some processors sum in another order with another number of threads: float32 rounding, no more.
    assert all(np.allclose(one, other, rtol=0, atol=1e-5) for one, other in two_threads.values())
    assert not all(np.allclose(one, other, rtol=0, atol=1e-5) for one, other in other_seed.values())
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_of_half_precision_are_tuned_in_full(seed: int) -> None:
    examples, config = sample(4), settings(dtype="bfloat16", tuning={"learning_rate": 1e-4})
    model = build("qwen2", dtype=torch.bfloat16)
    tuned, _ = warm_up(model, examples, config)
    assert {array.dtype for array in tuned.values()} == {np.dtype("float32")}
    put_on(model, tuned, config)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_stop_ends_a_warm_up_and_leaves_no_adapter() -> None:
    model, asked = build("qwen2"), iter([False, False, True])
    with pytest.raises(Stopped):
        warm_up(model, sample(5), settings(), should_stop=lambda: next(asked))
    assert not any(isinstance(module, LowRank) for module in model.modules())


def test_weights_of_another_model_are_refused() -> None:
    tuned, _ = warm_up(build("qwen2"), sample(6), settings())
    with pytest.raises(MismatchedShardError):
        put_on(build("gpt2"), tuned, settings())


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(records: list[Any], name: str) -> list[Path]:
        source = tmp_path / f"{name}.jsonl"
        source.write_bytes(jsonl(records))
        manifest = read_dataset(source, tmp_path / name)
        return [tmp_path / name / shard.name for shard in manifest.shards]

    return make


def test_the_sample_depends_on_the_rows_alone_not_on_their_order_or_shards(shards: Callable[..., list[Path]]) -> None:
    records, tokenizer = alpaca(150), build_tiny_tokenizer()
    config = settings(warmup_steps=10, tuning={"step_tokens": 200})
    shuffled = random.Random(1).sample(records, len(records))
    straight = warmup_examples(shards(records, "straight"), tokenizer, config)
    cut = shards(shuffled[:70], "one") + shards(shuffled[70:], "two")
    assert straight == warmup_examples(cut, tokenizer, config)
    tokens = [len(example.input_ids) for example in straight]
    assert sum(tokens[:-1]) < 10 * 200 <= sum(tokens)
    assert straight != warmup_examples(shards(records, "again"), tokenizer, config.model_copy(update={"seed": 1}))
    every = warmup_examples(shards(records, "all"), tokenizer, settings(warmup_steps=10_000))
    assert len(every) == 150, "a pool that is too small is seen more than once, each row in every pass"


def test_a_fingerprint_names_the_warm_up_only_where_there_is_one() -> None:
    def name(config: ss.GradientConfig, **given: str) -> str:
        return gradient_fingerprint(**{"rows_sha256": "r", "proxy_revision": "p", **given}, config=config)

    idle = ss.GradientConfig(tuning=Tuning(learning_rate=0.5))
    assert name(ss.GradientConfig()) == name(idle)
    assert warmup_fingerprint(pool="r", proxy_revision="p", config=idle) is None
    names = [name(settings()), name(settings(warmup_steps=6)), name(settings(tuning={"clip": 2.0})),
             name(settings(lora_rank=4)), name(settings(seed=1)), name(settings(), pool="another")]  # fmt: skip
    assert len({name(ss.GradientConfig()), *names}) == 7
    same = {
        warmup_fingerprint(pool="r", proxy_revision="p", config=settings(**given))
        for given in ({}, {"sketch_dim": 8}, {"loss": "sum"}, {"targets": "lora"}, {"batch_tokens": 64})
    }
    assert len(same) == 1, "what only the measuring needs does not train the model anew"


def test_a_run_warms_up_once_and_says_so(tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(alpaca(40)))

    def go(name: str, **gradients: Any) -> tuple[Any, list[RunProgress]]:
        given = {"sketch_dim": 8, "max_length": 64, "warmup_steps": 4, "targets": "lora", **gradients}
        tuning = Tuning(step_tokens=128, learning_rate=1e-2)
        config = ss.RunConfig(
            gradients=ss.GradientConfig(**given, tuning=tuning),
            selection=ss.SelectionConfig(budget=ss.Budget(count=5)),
        )
        steps: list[RunProgress] = []
        return run(source, config, tmp_path / name, cache=tmp_path / "cache", on_progress=steps.append), steps

    result, steps = go("first")
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases[:4] == ["validating", "loading_model", "warming_up", "computing_gradients"]
    counted = [(step.completed, step.total) for step in steps if step.phase == "warming_up"]
    assert counted == [(0, 0), (1, 4), (2, 4), (3, 4), (4, 4)]
    (kept,) = (tmp_path / "cache" / "warmups").iterdir()
    sha256 = hashlib.sha256(kept.read_bytes()).hexdigest()
    dependencies = result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    (warmed,) = [item for item in dependencies if item["name"] == "proxy-warmup"]
    assert warmed["digest"] == {"sha256": sha256}
    assert warmed["uri"] == f"spice:warmup/{kept.stem}"
    assert (result.summary["warmup"]["sha256"], result.summary["warmup"]["steps"]) == (sha256, 4)
    assert verify_folder(tmp_path / "first", source).ok
    shards = list((tmp_path / "cache" / "gradients").rglob("*.safetensors"))
    assert {read_shard(path).header["warmup"] for path in shards} == {sha256}

    other, steps = go("other", sketch_dim=4)
    assert "warming_up" not in {step.phase for step in steps}, "the same weights serve other measurements"
    assert not other.gradients_reused
    cold = go("cold", warmup_steps=0)[0]
    assert "warmup" not in cold.summary
    assert cold.ranking != result.ranking

    kept.write_bytes(kept.read_bytes()[:-1] + b"\0")
    with pytest.raises(CorruptShardError):
        read_warmup(kept, kept.stem)
    again, steps = go("again")
    assert "warming_up" in {step.phase for step in steps}
    assert again.gradients_reused, "made anew to the same bytes, so the gradients still stand"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == sha256
    assert (tmp_path / "again" / "ranking.parquet").read_bytes() == (
        tmp_path / "first" / "ranking.parquet"
    ).read_bytes()


def test_gradients_of_a_target_are_taken_after_the_warm_up_on_the_pool(tmp_path: Path) -> None:
    pool, target = tmp_path / "pool.jsonl", tmp_path / "target.jsonl"
    pool.write_bytes(jsonl(alpaca(30)))
    target.write_bytes(jsonl(alpaca(36)[30:]))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(
            sketch_dim=8, max_length=64, warmup_steps=2, tuning=Tuning(step_tokens=64, learning_rate=1e-2)
        ),
        selection=ss.SelectionConfig(budget=ss.Budget(count=3), method="less"),
    )
    steps: list[RunProgress] = []
    result = run(
        pool,
        config,
        tmp_path / "out",
        cache=tmp_path / "cache",
        targets=[TargetFile("target", target)],
        on_progress=steps.append,
    )
    assert len(list((tmp_path / "cache" / "warmups").iterdir())) == 1
    dependencies = result.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    named = {item["name"]: item for item in dependencies}
    shards = [read_shard(path).header for path in (tmp_path / "cache" / "gradients").iterdir()]
    assert len(shards) == 2
    assert {header["warmup"] for header in shards} == {named["proxy-warmup"]["digest"]["sha256"]}


@pytest.mark.parametrize("most", [1, 2])
def test_a_step_that_finds_too_little_memory_is_taken_in_smaller_pieces(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    examples = [row for row in nasty_examples(4, count=9) if any(label != -100 for label in row.labels[1:])]
    config = settings(warmup_steps=2, tuning={"step_tokens": 100})
    model = build("qwen2")
    whole, spent = warm_up(model, examples, config)
    assert spent.halvings == 0
    real, tried = steps.token_losses, list[int]()

    def small(model: Any, head: Any, rows: Any) -> Any:
        losses = real(model, head, rows)
        tried.append(len(rows))
        if len(rows) > most:
            # After a part of the gradient is there already, which must not be counted twice.
            losses[0].sum().backward(retain_graph=True)
            raise torch.OutOfMemoryError("this card holds little")
        return losses

    monkeypatch.setattr(steps, "token_losses", small)
    pieces, told = warm_up(model, examples, config)
    assert told.halvings > 0
    assert max(tried) > most
    assert set(pieces) == set(whole)
    for name, weights in whole.items():
        assert np.allclose(pieces[name], weights, rtol=1e-9, atol=1e-12), name
    monkeypatch.setattr(steps, "token_losses", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(torch.OutOfMemoryError):
        warm_up(model, examples, config)
