"""An accelerator that vanishes mid-shard: the attempt counts, the process ends, another one does the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select

from app.persistence.tables import Unit
from spice_select.gradients.forward import BatchPass
from tests.fixtures.service import InProcessService, jsonl, sums


def test_a_device_that_vanishes_mid_shard_costs_one_attempt_and_the_process(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = service.push(jsonl(sums(30)))
    job = service.submit(dataset["id"], gradients={"sketch_dim": 4, "max_length": 128, "batch_tokens": 200})
    ended: list[str] = []
    service.runner.wedged = lambda: ended.append("process")
    batches, run = [], BatchPass.__call__

    def vanish(_module: torch.nn.Module, _arguments: Any) -> None:
        raise torch.AcceleratorError("CUDA error: the device is gone\nCompile with TORCH_USE_CUDA_DSA")

    def second_batch_fails(self: BatchPass, batch: Any) -> Any:
        batches.append(batch)
        if len(batches) == 2:
            # from inside the model, as a kernel would
            handle = self.model.model.layers[-1].register_forward_pre_hook(vanish)
            try:
                return run(self, batch)
            finally:
                handle.remove()
        return run(self, batch)

    monkeypatch.setattr(BatchPass, "__call__", second_batch_fails)
    claim = service.runner.units.claim_next("test-worker")
    assert claim is not None
    service.runner.run_claim(claim)
    assert ended == ["process"]
    with service.runner.database.read() as session:
        unit = session.scalars(select(Unit).where(Unit.kind == "gradients")).one()
    assert (unit.state, unit.attempts, unit.owner) == ("pending", 1, None)
    assert unit.error is not None
    assert (unit.error["code"], unit.error["detail"]) == (
        "device-lost",
        "the device failed: CUDA error: the device is gone",
    )
    told = [e for e in service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"] if e["type"] == "unit.failed"]
    assert [(event["data"]["code"], event["data"]["again"]) for event in told] == [("device-lost", True)]
    service.drain()
    done = service.job(job["id"])
    assert (done["status"], done["result"]["pool"]) == ("succeeded", 30)
    assert ended == ["process"]


def test_a_sample_that_does_not_fit_the_device_is_no_lost_device(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = service.push(jsonl(sums(4)))
    job = service.submit(dataset["id"])
    service.runner.wedged = lambda: pytest.fail("the process was ended")

    def crowded(_self: BatchPass, _batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(BatchPass, "__call__", crowded)
    service.drain()
    assert service.job(job["id"])["error"]["code"] == "out-of-memory"


def test_batches_that_do_not_fit_are_halved_and_the_halvings_shown_everywhere(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = BatchPass.__call__

    def crowded(self: BatchPass, batch: Any) -> Any:
        if batch.samples > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return measured(self, batch)

    with InProcessService(any_database_url, tmp_path / "data") as service:
        job = service.submit(service.push(jsonl(sums(10)))["id"])
        with monkeypatch.context() as patched:
            patched.setattr(BatchPass, "__call__", crowded)
            service.drain()
        assert service.job(job["id"])["status"] == "succeeded"
        (shard,) = service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()["shards"]
        assert shard["halvings"] > 1
        statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
        assert f'"batchHalvings": {shard["halvings"]}' in json.dumps(statement)
