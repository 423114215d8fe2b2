"""A selection whose pool does not fit a worker's memory reads it from the disk, and chooses the same."""

from __future__ import annotations

from typing import Any

import pytest

from spice_select.arrays import StackedArrays
from spice_select.pipeline.pool import Pool
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.units.stored_selection import StoredSelection

COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")


@pytest.mark.parametrize(
    "selection", [{}, {"conflict_penalty": 0.0}, {"scope": {"kind": "windows", "size": 8}}], ids=str
)
def test_a_pool_larger_than_the_memory_is_left_on_the_disk(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch, selection: dict[str, Any]
) -> None:
    dataset = service.push(jsonl(sums(24)))
    loaded: list[Pool] = []
    ordinary = StoredSelection.pool

    def noted(self: StoredSelection) -> Pool:
        loaded.append(ordinary(self))
        return loaded[-1]

    monkeypatch.setattr(StoredSelection, "pool", noted)
    results = []
    for memory in (2**30, 1):
        settings = service.settings.model_copy(update={"worker_memory_bytes": memory})
        monkeypatch.setattr(service.runner.resources, "settings", settings)
        job = service.submit(dataset["id"], budget={"count": 6}, selection=selection)
        service.drain()
        assert service.job(job["id"])["status"] == "succeeded"
        results.append([service.http.get(f"/v1/jobs/{job['id']}/files/{name}").content for name in COMPARED])
    in_memory, on_disk = (pool.features for pool in loaded)
    assert not isinstance(in_memory, StackedArrays)
    assert isinstance(on_disk, StackedArrays)
    assert results[0] == results[1]
