"""Gradients kept in two bytes a number: rounded as torch rounds, read back exactly, mapped as read, half the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import spice_select as ss
from spice_select.arrays import StoreDtype, narrowed, rounded, widened
from spice_select.fingerprint import gradient_fingerprint
from spice_select.ingest import IntakeOptions, read_dataset
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.measure import measure_shard
from spice_select.pipeline.pool import load_pool, open_pool
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.storage.shards import read_shard, write_shard
from tests.fixtures.results import alpaca, jsonl

NASTY = [0.0, -0.0, 1.0, -1.0, 1e-45, 6e-8, 65504.0, 65519.9, 3.3895e38, 1.00390625, 1.01171875, 1 / 3, -2.5e-5]
HALVES: list[StoreDtype] = ["float16", "bfloat16"]


@pytest.mark.parametrize("dtype", HALVES)
def test_rounding_is_that_of_torch(dtype: StoreDtype, seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = np.concatenate([draw.normal(size=5000), np.exp(draw.normal(size=5000) * 20), NASTY]).astype(np.float32)
    theirs = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()
    assert np.array_equal(widened(narrowed(values, dtype)), theirs)
    assert np.array_equal(rounded(theirs, dtype)[np.isfinite(theirs)], theirs[np.isfinite(theirs)]), "once is enough"
    broken = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    assert np.array_equal(rounded(broken, dtype), broken, equal_nan=True)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    (folder / "pool.jsonl").write_bytes(jsonl(alpaca(60)))
    manifest = read_dataset(folder / "pool.jsonl", folder / "rows", IntakeOptions())
    return folder / "rows" / manifest.shards[0].name


def test_shards_of_two_bytes_are_half_as_large_and_choose_as_well(rows: Path, tmp_path: Path) -> None:
    found = {}
    for dtype in ("float32", "float16", "bfloat16"):
        config = ss.GradientConfig(max_length=64, store_dtype=dtype)
        shard = measure_shard(rows, 0, load_proxy(ss.ProxyConfig(), config), config, header={"fingerprint": "f"})
        path = tmp_path / dtype
        digest = write_shard(path, shard)
        again = read_shard(path, digest, "f")
        assert again.features.dtype == np.float32
        assert np.array_equal(again.features, shard.features)
        assert again.dtype == dtype
        disk, memory = open_pool([(path, digest)], "f"), load_pool([(path, digest)], "f")
        assert np.array_equal(disk.features[np.arange(60)], memory.features)
        assert np.array_equal(disk.features[7:41], memory.features[7:41])
        found[dtype] = (path.stat().st_size, memory.features, disk.features)
    exact = found["float32"][1]
    selection = ss.SelectionConfig(budget=ss.Budget(count=12), conflict_penalty=0.0)
    best = ss.select(exact, selection).utility
    for dtype in HALVES:
        size, memory, disk = found[dtype]
        assert size < 0.55 * found["float32"][0]
        picks = ss.select(GradientMatrix(memory, dtype), selection)
        assert ss.select(GradientMatrix(disk, dtype), selection) == picks
        assert picks.indices[0] == 0  # every row has length one, but for the rounding
        information = torch.eye(12).double() + torch.from_numpy(exact[picks.indices] @ exact[picks.indices].T).double()
        assert float(torch.logdet(information)) > 0.995 * best


def test_what_is_too_large_for_float16_is_excluded(rows: Path) -> None:
    config = ss.GradientConfig(max_length=64, normalize="none", loss="sum", store_dtype="float16")
    proxy = load_proxy(ss.ProxyConfig(), config)
    with torch.no_grad():
        proxy.model.model.norm.weight *= 1e9
    shard = measure_shard(rows, 0, proxy, config, header={"fingerprint": "f"})
    assert {item["code"] for item in shard.excluded} == {"gradient-not-finite"}
    assert len(shard.rows) + len(shard.excluded) == 60
    assert np.isfinite(shard.features).all()


def test_a_default_that_says_nothing_leaves_fingerprints_as_they_were() -> None:
    config = ss.GradientConfig()
    prints = [
        gradient_fingerprint(
            rows_sha256="a", proxy_revision="1", config=config.model_copy(update={"store_dtype": dtype})
        )
        for dtype in ("float32", *HALVES)
    ]
    assert len(set(prints)) == 3
