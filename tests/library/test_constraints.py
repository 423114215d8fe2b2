"""Budgets, floors, caps and settled rows together, pick for pick against a twin that tries every row at every step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spice_select as ss
from spice_select.config import Method, Quotas
from spice_select.errors import BudgetError
from spice_select.method_names import MEASURES
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.selection.select import random_control, select
from tests.fixtures.examples import examples
from tests.fixtures.results import alpaca, jsonl
from tests.reference.constraints import can_be_completed, constrained_select
from tests.reference.selection import utility

GRADIENTS = ss.GradientConfig(sketch_dim=8, max_length=64, batch_tokens=512)


@settings(max_examples=examples(120))
@given(
    seed=st.integers(0, 100_000),
    size=st.integers(4, 11),
    in_tokens=st.booleans(),
    penalty=st.sampled_from([0.0, 0.3]),
    limits=st.tuples(*[st.integers(0, 3)] * 4),
    settled=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_equals_the_twin_pick_for_pick(
    seed: int, size: int, in_tokens: bool, penalty: float, limits: tuple[int, ...], settled: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(size, 3))
    groups = [str(name) for name in rng.choice(["a", "b"], size=size)]
    tokens = rng.integers(1, 9, size=size).tolist()
    floors = {"a": limits[0] // 2, "b": limits[1] // 2}
    caps = {"a": floors["a"] + limits[2], "b": floors["b"] + limits[3] + 1}
    order = rng.permutation(size).tolist()
    forced, forbidden = order[: settled[0]], order[settled[0] : sum(settled)]
    if in_tokens:
        budget, limit, costs = ss.Budget(tokens=int(sum(tokens) * 0.6) + 1), int(sum(tokens) * 0.6) + 1, tokens
    else:
        budget, limit, costs = ss.Budget(count=max(1, size // 2)), max(1, size // 2), [1] * size
    config = ss.SelectionConfig(budget=budget, conflict_penalty=penalty, quotas=Quotas(floors=floors, caps=caps))
    rest: dict[str, Any] = {
        "groups": groups, "costs": costs, "limit": limit, "floors": floors, "caps": caps, "forced": forced,
        "forbidden": forbidden,
    }  # fmt: skip
    possible = can_be_completed([], groups, costs, limit, floors, caps, forced, forbidden)
    arguments: dict[str, Any] = {
        "groups": groups, "costs": tokens, "must_include": forced, "exclude": forbidden
    }  # fmt: skip
    if not possible:
        with pytest.raises(BudgetError):
            select(gradients, config, **arguments)
        return
    twins = [
        constrained_select(gradients, penalty=penalty, per_cost=per_cost, **rest) for per_cost in {False, in_tokens}
    ]
    try:
        selection = select(gradients, config, **arguments)
    except BudgetError:
        # Refused only where nothing at all fits, or fewer samples can be had than were asked for.
        assert max(map(len, twins)) == 0 or (not in_tokens and len(twins[0]) < limit)
        return
    assert selection.indices in twins
    best = max(utility(gradients[rows], 1.0) for rows in twins)
    assert selection.utility == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("information", ["logdet", "diagonal"])
def test_no_conflict_is_zero_and_not_minus_zero(method: Method, information: Any) -> None:
    pool = np.abs(np.random.default_rng(2).normal(size=(12, 3)))
    pool[4] = 0.0
    selection = select(
        pool,
        ss.SelectionConfig(budget=ss.Budget(count=8), method=method, information=information),
        costs=list(range(1, 13)),
        groups=["a", "b"] * 6,
        losses=list(range(12)),
        targets=pool[:2],
        target_scores=[torch.ones(12, 2)],
    )
    assert all(math.copysign(1.0, value) > 0 for value in selection.conflicts)
    assert selection.certificate is not None
    assert math.copysign(1.0, selection.certificate.max_conflict) > 0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("controls") / "pool.jsonl"
    path.write_bytes(jsonl([{**record, "kind": "ab"[i % 2]} for i, record in enumerate(alpaca(30))]))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("method", get_args(Method))
def test_every_report_has_the_random_control_beside_it(
    method: Method, source: Path, cache: Path, tmp_path: Path
) -> None:
    from spice_select.storage.shards import read_shard

    selection = ss.SelectionConfig(
        budget=ss.Budget(count=7),
        method=method,
        quotas=Quotas(column="kind") if method == "stratified" else None,
        seed=5,
    )
    settings_ = ss.RunConfig(gradients=GRADIENTS, selection=selection)
    target = tmp_path / "target.jsonl"
    target.write_text('{"instruction": "What is asked for?", "output": "Rows like this one."}\n', encoding="utf-8")
    targeted = method in {"less", "bm25", "embedding"}
    kept = cache / MEASURES.get(method, "gradient")
    result = run(source, settings_, cache=kept, targets=[TargetFile("target", target)] if targeted else [])
    shards = [read_shard(path).features for path in (kept / "gradients").glob("*.safetensors")]
    pool = max(shards, key=len).astype(np.float64)  # the target of less has a shard of its own
    drawn = select(pool, selection.model_copy(update={"method": "random", "quotas": None})).indices
    assert result.summary["random_control"]["utility"] == pytest.approx(utility(pool[drawn], 1.0), rel=1e-9)
    assert result.summary["random_control"]["utility"] == random_control(pool, selection, 7, 5)
