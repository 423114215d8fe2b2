"""What the selection is measured against chooses what it should, and pools are what they say."""

import json

import numpy as np
import pytest
import torch

from benchmarks import selection as benchmark
from benchmarks.pools import BUNDLED, LORA_SIZE, WIDE, Source, exact_gradients
from benchmarks.rivals import authors_greedy, authors_windows, dense_greedy
from tests.library.test_golden import AUTHORS, gradients
from tests.reference import selection as reference


@pytest.mark.parametrize("case", AUTHORS, ids=[case["gradients"] for case in AUTHORS])
def test_the_authors_greedy_chooses_what_their_code_chooses(case):
    chosen = authors_greedy(
        torch.from_numpy(gradients(case["gradients"])).float(),
        case["k"],
        alpha=case["alpha"],
        penalty=case["conflict_penalty"],
    )
    assert chosen == case["results"]["conflict_penalty/diag"]["selected"]


def test_windows_give_their_share_and_stay_within_themselves(seed):
    pool = torch.randn(70, 12, generator=torch.Generator().manual_seed(seed)) / 4
    chosen = authors_windows(pool, 20, window=32)
    assert len(chosen) == len(set(chosen)) == 20
    assert [sum(start <= row < start + 32 for row in chosen) for start in (0, 32, 64)] == [9, 9, 2]
    assert chosen[:9] == authors_greedy(pool[:32], 9)


@pytest.mark.parametrize("shape", [(60, 20, 40), (40, 90, 25)], ids=["beyond-the-dimension", "below-the-dimension"])
def test_the_dense_greedy_chooses_what_the_reference_chooses(shape, seed):
    rows, dimension, count = shape
    pool = torch.randn(rows, dimension, generator=torch.Generator().manual_seed(seed)) / dimension**0.5
    expected, _, _ = reference.dense_select(pool.double().numpy(), alpha=1.0, penalty=0.1, count=count)
    assert dense_greedy(pool, count) == expected


def test_pools_hold_real_gradients_first_and_are_made_once(tmp_path):
    source = Source(BUNDLED, 6, tmp_path, seed=3)
    real = source.gradients()
    assert real.shape == (6, WIDE)
    pool = source.pool(9, WIDE)
    np.testing.assert_allclose(pool[:6], real, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pool, axis=1), 1.0, rtol=1e-5)
    assert len(np.unique(pool, axis=0)) == 9
    made = source.pool_path(9, WIDE).stat().st_mtime_ns
    assert (source.pool(9, WIDE) == pool).all()
    assert source.pool_path(9, WIDE).stat().st_mtime_ns == made
    assert source.pool(7, 32).shape == (7, 32)


def test_exact_gradients_have_the_size_of_adapters():
    measured = exact_gradients(BUNDLED, 2)
    assert measured.shape == (2, LORA_SIZE)
    assert bool((measured.norm(dim=1) > 0).all())


def test_the_command_prints_a_ratio_for_each_row(tmp_path, capsys, monkeypatch):
    options = ["--json", "--rows", "windows,dense,submodlib", "--scale", "0.01", "--source-rows", "8"]
    monkeypatch.setattr("sys.argv", ["selection", *options, "--scratch", str(tmp_path)])
    assert benchmark.main() == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    windows, dense, submodlib = summary["rows"]
    assert windows["utility"] > 0
    assert windows["ratio"] == pytest.approx(windows["theirs_seconds"] / windows["ours_seconds"])
    assert dense["same_picks"]
    assert dense["refreshed_share"] > 0
    assert "not_measured" in submodlib
    assert {"processor", "torch"} <= summary["machine"].keys()
