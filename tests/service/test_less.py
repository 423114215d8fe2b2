"""The method less over HTTP: the job waits for the gradients of two data sets and chooses what is closest to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.persistence.repositories import Units
from spice_select.storage.shards import read_shard
from tests.fixtures.service import InProcessService, jsonl, sums


@pytest.fixture
def ready(any_service: InProcessService) -> dict[str, Any]:
    return any_service.push(jsonl(sums(14)))


@pytest.fixture
def target(any_service: InProcessService) -> dict[str, Any]:
    return any_service.push(jsonl(sums(4, 200)), "target.jsonl")


def matrix(service: InProcessService, gradient_set_id: str) -> Any:
    with service.runner.database.read() as session:
        found = Units(session).shard_commits(gradient_set_id)
        paths = [service.runner.store.path(unit.project_id, commit.artifact_sha256 or "") for unit, commit in found]
    return np.concatenate([read_shard(path).features for path in paths]).astype(np.float64)


def chosen(service: InProcessService, job_id: str) -> list[int]:
    data = service.http.get(f"/v1/jobs/{job_id}/selection").json()["data"]
    return [sample["source_row"] for sample in data]


def test_less_chooses_the_rows_closest_to_the_target(
    any_service: InProcessService, ready: dict[str, Any], target: dict[str, Any]
) -> None:
    job = any_service.submit(ready["id"], budget={"count": 5}, method="less", target_dataset_id=target["id"])
    assert job["target_gradient_set_id"] not in {None, job["gradient_set_id"]}
    assert job["config"]["conditions"]["target_dataset_id"] == target["id"]
    shown = any_service.job(job["id"])
    assert shown["phase"] == "waiting_for_worker"
    assert any_service.drain() == 3, "a shard of each data set, and one selection after both"
    done = any_service.job(job["id"])
    assert done["status"] == "succeeded", done["error"]
    pool, wanted = (matrix(any_service, done[key]) for key in ("gradient_set_id", "target_gradient_set_id"))
    mean = (wanted / np.linalg.norm(wanted, axis=1, keepdims=True)).mean(axis=0)
    close = (pool @ mean) / np.linalg.norm(pool, axis=1)
    assert chosen(any_service, job["id"]) == np.argsort(-close, kind="stable")[:5].tolist()
    statement = any_service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    stated = next(item for item in dependencies if item["name"] == "target-dataset")
    assert stated["uri"] == f"spice:dataset/{target['id']}"
    assert stated["digest"] == {"sha256": target["digest"]["sha256"]}
    again = any_service.submit(ready["id"], budget={"count": 2}, method="less", target_dataset_id=target["id"])
    assert again["gradients_reused"] is True
    assert any_service.drain() == 1


def test_a_selection_waits_for_both_gradient_sets(
    any_service: InProcessService, ready: dict[str, Any], target: dict[str, Any]
) -> None:
    any_service.submit(ready["id"])
    any_service.drain()
    job = any_service.submit(ready["id"], budget={"count": 5}, method="less", target_dataset_id=target["id"])
    assert job["gradients_reused"] is False, "the target's are missing"
    claim = any_service.runner.units.claim_next("w")
    assert claim is not None
    assert (claim.kind, claim.gradient_set_id) == ("gradients", job["target_gradient_set_id"])
    assert any_service.runner.units.claim_next("w") is None, "the selection cannot start yet"
    assert any_service.job(job["id"])["status"] == "running"
    assert any_service.job(job["id"])["progress"]["total"] == 18, "samples of both"
    refused = any_service.http.delete(f"/v1/datasets/{target['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset-in-use")
    any_service.runner.run_claim(claim)
    any_service.drain()
    done = any_service.job(job["id"])
    assert done["status"] == "succeeded"
    types = [event["type"] for event in any_service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]]
    assert types == ["job.queued", "job.running", "job.gradients_ready", "job.succeeded"]


def test_lost_gradients_of_the_target_are_made_again(
    any_service: InProcessService, ready: dict[str, Any], target: dict[str, Any]
) -> None:
    first = any_service.submit(ready["id"], method="less", target_dataset_id=target["id"])
    any_service.drain()
    with any_service.runner.database.read() as session:
        ((unit, commit),) = Units(session).shard_commits(first["target_gradient_set_id"])
    any_service.runner.store.path(unit.project_id, commit.artifact_sha256 or "").unlink()
    job = any_service.submit(ready["id"], budget={"count": 4}, method="less", target_dataset_id=target["id"])
    any_service.drain()
    assert any_service.job(job["id"])["status"] == "succeeded"
    assert chosen(any_service, job["id"])[:3] == chosen(any_service, first["id"])


def test_a_failing_target_fails_the_job(any_service: InProcessService, ready: dict[str, Any]) -> None:
    records = sums(3, 300)
    for record in records:
        record["instruction"] = "long " * 200
    long = any_service.push(jsonl(records))
    gradients = {"sketch_dim": 4, "max_length": 64, "overflow": "exclude"}
    job = any_service.submit(ready["id"], method="less", target_dataset_id=long["id"], gradients=gradients)
    any_service.drain()
    done = any_service.job(job["id"])
    assert (done["status"], done["error"]["code"]) == ("failed", "pool-empty")
    assert sum(done["error"]["reasons"].values()) > 0
    assert done["error"]["errors"][0]["pointer"] == "#/target_dataset_id"


def test_what_is_wrong_with_the_target_is_refused(any_service: InProcessService, ready: dict[str, Any]) -> None:
    def refused(**body: Any) -> tuple[int, str, str]:
        asked = {"dataset_id": ready["id"], "budget": {"count": 3}, **body}
        problem = any_service.http.post("/v1/jobs", json=asked).json()
        return problem["status"], problem["code"], problem["errors"][0]["pointer"]

    pointer = "#/target_dataset_id"
    assert refused(method="less") == (422, "config-invalid", "#/targets")
    assert refused(method="herding", target_dataset_id=ready["id"]) == (422, "config-invalid", pointer)
    assert refused(method="less", target_dataset_id=ready["id"]) == (422, "config-invalid", pointer), "the pool itself"
    assert refused(method="less", target_dataset_id="ds_none") == (404, "not-found", pointer)
    invalid = any_service.push(b"not json at all\n")
    assert refused(method="less", target_dataset_id=invalid["id"]) == (422, "dataset-invalid", pointer)
    response = any_service.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(2)))})
    assert refused(method="less", target_dataset_id=response.json()["id"]) == (409, "dataset-not-ready", pointer)
    windows = {"scope": {"kind": "windows"}}
    assert refused(method="less", target_dataset_id=ready["id"], selection=windows) == (422, "config-invalid", pointer)
    assert any_service.http.get("/v1/gradient-sets").json()["data"] == []
