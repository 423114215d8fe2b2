"""A data set that begins with the rows of another: only what was added is measured, and it outlives the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import spice_select as ss
from app.services.storage.retention import Retention
from spice_select.ingest import SHARD_ROWS
from spice_select.pipeline.run import run
from tests.fixtures.service import InProcessService, jsonl

GRADIENTS = {"sketch_dim": 4, "max_length": 32}


def short(count: int) -> list[dict[str, Any]]:
    return [{"instruction": f"{i}?", "output": f"{i * 7 % 1009}"} for i in range(count)]


def test_appending_rows_measures_only_the_new_ones(any_service: InProcessService, tmp_path: Path) -> None:
    one = any_service.push(jsonl(short(SHARD_ROWS + 3)))
    first = any_service.submit(one["id"], gradients=GRADIENTS)
    assert any_service.drain() == 3, "two shards and a selection"
    two = any_service.push(jsonl(short(SHARD_ROWS + 9)))
    body = {"dataset_id": two["id"], "budget": {"count": 3}, "gradients": GRADIENTS}
    estimate = any_service.http.post("/v1/estimates", json=body).json()
    assert estimate["shards"] == {"total": 2, "done": 1}
    second = any_service.submit(two["id"], gradients=GRADIENTS)
    assert second["gradient_set_id"] != first["gradient_set_id"]
    assert second["gradients_reused"] is False, "not all of them"
    assert any_service.drain() == 2, "the shard with the new rows and a selection"
    done = any_service.job(second["id"])
    assert done["result"]["pool"] == SHARD_ROWS + 9

    # The very choice of a run that knows nothing of the first data set.
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(short(SHARD_ROWS + 9)))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(**GRADIENTS), selection=ss.SelectionConfig(budget=ss.Budget(count=3))
    )
    run(source, config, tmp_path / "out", cache=tmp_path / "cache")
    chosen = any_service.http.get(f"/v1/jobs/{second['id']}/files/selected.jsonl").content
    assert chosen == (tmp_path / "out" / "selected.jsonl").read_bytes()

    # Gradients of the first that nobody needs any more go, but not the shard that the second counts on.
    busy = any_service.submit(two["id"], gradients=GRADIENTS)
    settings = any_service.settings.model_copy(update={"gradient_days": 1e-7})
    swept = Retention(any_service.runner.database, any_service.runner.store, settings).sweep()
    assert swept == {"gradient_sets_expired": 1, "artifacts_removed": 1}
    assert any_service.drain() == 1, "a selection from shards that are all there"
    assert any_service.http.get(f"/v1/jobs/{busy['id']}/files/selected.jsonl").content == chosen

    # Without the first data set all of the second is still there, and its rotten shards can be made again.
    assert any_service.http.delete(f"/v1/datasets/{one['id']}").status_code == 204
    for path in any_service.settings.data_dir.joinpath("objects").rglob("*"):
        if path.is_file() and b'"features"' in path.read_bytes()[:4096]:
            path.unlink()
    third = any_service.submit(two["id"], gradients=GRADIENTS)
    assert third["gradients_reused"] is True
    assert any_service.drain() == 4, "a selection that finds both shards lost, both of them, a selection"
    assert any_service.http.get(f"/v1/jobs/{third['id']}/files/selected.jsonl").content == chosen


def test_a_shorter_data_set_of_whole_shards_needs_nothing(service: InProcessService) -> None:
    long = service.push(jsonl(short(SHARD_ROWS + 1)))
    service.submit(long["id"], gradients=GRADIENTS)
    service.drain()
    whole = service.push(jsonl(short(SHARD_ROWS)))
    job = service.submit(whole["id"], gradients=GRADIENTS)
    assert job["gradients_reused"] is True
    assert service.drain() == 1, "the selection alone"
    assert service.job(job["id"])["result"]["pool"] == SHARD_ROWS


def test_the_same_records_read_by_other_columns_share_no_gradients(service: InProcessService) -> None:
    records = [{"question": f"What is {i}?", "answer": f"It is {i}.", "other": f"{i} " * (i % 9 + 1)} for i in range(6)]
    jobs = []
    for response in ("answer", "other"):
        columns = f'{{"prompt": "question", "response": "{response}"}}'
        dataset = service.push(jsonl(records), format="prompt_completion", columns=columns)
        jobs.append(service.submit(dataset["id"]))
        service.drain()
    assert jobs[0]["gradient_set_id"] != jobs[1]["gradient_set_id"]
    first, second = (service.job(job["id"])["result"]["tokens_pool"] for job in jobs)
    assert first != second
