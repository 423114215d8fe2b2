"""Evidence for each row: equal to its definition, for pools in memory and on the disk, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spice_select as ss
from spice_select.arrays import StackedArrays
from spice_select.selection import row_evidence as module
from spice_select.selection.gradient_matrix import GradientMatrix
from spice_select.selection.row_evidence import row_evidence
from tests.reference import row_evidence as reference


def pool_of(seed: int, size: int = 60, width: int = 9) -> np.ndarray:
    """Rows with copies, a zero row and lengths that differ."""
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(size, width)) * draw.uniform(0.2, 3.0, size=(size, 1))
    rows[7], rows[11], rows[13] = rows[3], rows[3], 0.0
    return rows


def compared(pool, config, *, targets=(), given=None, exclude=(), of=None):
    rows = GradientMatrix(pool if of is None else of)
    named = {"targets": list(targets) or None, "given": given, "exclude": exclude}
    selection = ss.select(rows, config, **named)
    made = row_evidence(rows, config, selection, targets=targets, given=given, exclude=exclude)
    expected = reference.row_evidence(
        pool, selection.indices, targets, alpha=config.alpha, tasks=selection.tasks, given=given, exclude=exclude
    )
    assert made.available == len(pool) - len(exclude)
    for row, item in enumerate(expected):
        assert made.tasks[row] == item["task"]
        assert made.relevance_ranks[row] == item["relevance_rank"]
        assert made.nearest_picks[row] == item["nearest_pick"], row
        assert made.pick_cosines[row] == pytest.approx(item["pick_cosine"], abs=1e-12)
        assert made.target_rows[row].tolist() == [place for place, _ in item["targets"]]
        assert made.target_cosines[row].tolist() == pytest.approx([near for _, near in item["targets"]], abs=1e-12)
        if item["relevance"] is not None:
            assert made.relevances[row] == pytest.approx(item["relevance"], abs=1e-12)
        assert made.gains[row] == pytest.approx(item["gain"], rel=1e-9, abs=1e-12)
        assert made.conflicts[row] == pytest.approx(item["conflict"], abs=1e-7)  # the paper's eta
    if selection.relevances is not None:
        assert made.relevances[selection.indices].tolist() == pytest.approx(selection.relevances, abs=1e-12)
    return made


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rule", ["matching", "relevance"])
def test_evidence_is_what_the_definition_says(seed: int, rule: str, monkeypatch) -> None:
    if seed % 2:
        monkeypatch.setattr(module, "PICK_BYTES", 3 * 8 * 9)  # three picks at a time
    draw = np.random.default_rng(100 + seed)
    targets = [draw.normal(size=(5, 9)), draw.normal(size=(2, 9))]
    targets[0][4] = targets[0][1]
    config = ss.SelectionConfig(budget=ss.Budget(count=14), target_rule=rule)
    compared(pool_of(seed), config, targets=targets, exclude=[2, 5, 40], given=draw.normal(size=(3, 9)))


@pytest.mark.parametrize("method", ["spice", "random", "k_center"])
def test_without_targets_rows_are_compared_with_the_picks(method: str) -> None:
    compared(pool_of(1), ss.SelectionConfig(method=method, budget=ss.Budget(count=9)), exclude=[1])


def test_one_target_row_is_named_once() -> None:
    made = compared(pool_of(2), ss.SelectionConfig(budget=ss.Budget(count=3)), targets=[np.ones((1, 9))])
    assert made.target_rows.shape == (60, 1)


def test_a_pool_on_the_disk_gives_the_same_in_small_blocks(tmp_path, monkeypatch) -> None:
    pool = pool_of(3).astype(np.float32)
    np.save(tmp_path / "rows.npy", pool)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    monkeypatch.setattr("spice_select.selection.gradient_matrix.BLOCK_BYTES", 8 * 9 * 7)
    config = ss.SelectionConfig(budget=ss.Budget(count=10))
    targets = [np.random.default_rng(5).normal(size=(4, 9))]
    compared(pool.astype(np.float64), config, targets=targets, of=StackedArrays([stored[:20], stored[20:]]))


def test_too_many_comparisons_are_left_out_and_gains_of_another_kind_are_not_claimed(monkeypatch) -> None:
    rows = GradientMatrix(torch.from_numpy(pool_of(4)))
    config = ss.SelectionConfig(budget=ss.Budget(count=5), information="diagonal")
    selection = ss.select(rows, config)
    assert row_evidence(rows, config, selection).gains is None
    monkeypatch.setattr(module, "MOST_OPERATIONS", 60 * 5 * 9 - 1)
    assert row_evidence(rows, config, selection).nearest_picks is None
    monkeypatch.setattr(module, "MOST_OPERATIONS", 60 * 5 * 9)
    assert row_evidence(rows, config, selection).nearest_picks is not None


def test_rows_that_cancel_and_a_selection_without_a_pick_leave_finite_numbers() -> None:
    rows = GradientMatrix(torch.from_numpy(pool_of(6)))
    target = np.stack([np.ones(9), -np.ones(9)])
    config = ss.SelectionConfig(method="less", budget=ss.Budget(count=5))
    stopped = ss.select(rows, config, targets=[target], should_stop=lambda: True)
    assert stopped.indices == []
    made = row_evidence(rows, config, stopped, targets=[target])
    assert made.relevances is not None
    assert made.gains is not None
    assert np.isfinite([*made.relevances, *made.gains, *made.conflicts, *made.pick_cosines]).all()
    assert (made.nearest_picks == -1).all()
    assert made.gains == pytest.approx(np.log1p(rows.squared_norms.numpy()))
