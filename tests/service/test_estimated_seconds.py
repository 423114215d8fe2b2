"""Estimates of seconds against what jobs took: figures of real runs of the embedded service, two shared cores."""

from __future__ import annotations

from typing import Any

import pytest

from app.persistence.repositories.history import RecordedSelection, RecordedShard
from app.services.jobs.estimated_seconds import estimated_seconds
from app.services.workers import WorkerMemory
from spice_select.config import Budget, RunConfig, SelectionConfig
from spice_select.models.architecture import TINY, proxy_shape

SMOL = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip
PROCESSOR = [WorkerMemory("one", 2**33, 2**33)]
RUNS: dict[str, tuple[dict[str, Any], list[tuple[int, int, float, float, float]]]] = {
    # Rows, tokens, seconds of gradients (loading left out), of selecting, and in all.
    "tiny": (TINY, [(60, 11783, 0.46, 0.045, 1.8), (200, 41702, 1.757, 0.088, 2.88), (600, 123551, 4.0, 0.227, 5.32)]),
    "smollm2": (
        SMOL,
        [(24, 3837, 30.0, 0.037, 34.4), (60, 9669, 63.4, 0.066, 64.7), (200, 32312, 172.7, 0.226, 174.2)],
    ),
}
CONFIG = RunConfig(selection=SelectionConfig(budget=Budget(fraction=0.1)))


def said(
    model: dict[str, Any],
    rows: int,
    tokens: int,
    past: list[tuple[int, int, float, float, float]],
    workers: list[WorkerMemory] = PROCESSOR,
    config: RunConfig = CONFIG,
) -> tuple[dict[str, float | None], str | None, list[str]]:
    settings = CONFIG.model_dump(mode="json")
    shards = [RecordedShard(None, settings, None, {"tokens": run[1], "seconds": run[2]}) for run in past]
    selections = [RecordedSelection(settings, run[0], run[0] // 10, run[3]) for run in past]
    notes: list[str] = []
    seconds, basis = estimated_seconds(
        config, proxy_shape(model), shards, selections, workers,
        tokens=tokens, rows=rows, measured=rows, rows_left=rows, notes=notes,
    )  # fmt: skip
    return seconds, basis, notes


@pytest.mark.parametrize("name", RUNS)
def test_every_run_was_estimated_within_a_factor_of_three_from_any_other_and_from_none(name: str) -> None:
    model, runs = RUNS[name]
    for run in runs:
        rows, tokens, _, _, took = run
        for past, expected in [([], "assumed"), *(([other], "measured") for other in runs if other != run)]:
            seconds, basis, notes = said(model, rows, tokens, past)
            assert basis == expected
            total, selecting = seconds["total"], seconds["selecting"]
            assert total is not None
            assert took / 3 < total < 3 * took, (run, past, seconds)
            assert selecting is not None
            assert run[3] / 4 < selecting < 4 * run[3], (run, past, seconds)
            assert any(note.startswith("seconds: ") for note in notes)


def test_nothing_is_assumed_of_an_accelerator_or_where_no_worker_is() -> None:
    for workers in ([], [WorkerMemory("gpu", 2**36, 2**37)]):
        seconds, basis, notes = said(TINY, 60, 11783, [], workers)
        assert (seconds["gradients"], seconds["total"], basis) == (None, None, None)
        assert "seconds: no unit with this model has run yet" in notes


def test_a_budget_in_tokens_has_seconds_too() -> None:
    config = RunConfig(selection=SelectionConfig(budget=Budget(tokens=1178)))
    by_tokens = said(TINY, 60, 11783, [RUNS["tiny"][1][0]], config=config)[0]["selecting"]
    assert by_tokens == pytest.approx(said(TINY, 60, 11783, [RUNS["tiny"][1][0]])[0]["selecting"], rel=0.05)
