"""The methods bm25 and embedding as jobs: what they store, what they share, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import spice_select as ss
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from tests.fixtures.service import InProcessService, jsonl, sums

GRADIENTS = {"sketch_dim": 4, "max_length": 64}
FISH = [{"instruction": f"Name fish number {i}.", "output": f"A cod of the ocean, no {i}."} for i in range(9)]
RECORDS = [*sums(9), *FISH]
TARGET = [{"instruction": "Name a fish.", "output": "A cod of the ocean."}]


@pytest.fixture
def ready(service: InProcessService) -> dict[str, Any]:
    return service.push(jsonl(RECORDS))


def chosen(service: InProcessService, job: dict[str, Any]) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    return data


@pytest.mark.parametrize(("method", "features"), [("bm25", 1024), ("embedding", 64)])
def test_a_job_is_a_run_and_shares_what_it_measured(
    service: InProcessService, ready: dict[str, Any], method: Any, features: int, tmp_path: Path
) -> None:
    targets = [{"name": "fish", "weight": 2.0, "rows": TARGET}, {"name": "sums", "rows": sums(2, 50)}]
    body = {"dataset_id": ready["id"], "budget": {"count": 6}, "method": method, "gradients": GRADIENTS}
    estimate = service.http.post("/v1/estimates", json={**body, "targets": targets}).json()
    assert estimate["features"] == features
    job = service.submit(ready["id"], budget={"count": 6}, method=method, gradients=GRADIENTS, targets=targets)
    assert service.drain() == 3, "a shard of the pool, one of the targets, a selection"
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done["error"]
    picks = chosen(service, job)
    assert [pick["target"] for pick in picks] == ["fish", "sums", "fish", "fish", "sums", "fish"]
    (tmp_path / "pool.jsonl").write_bytes(jsonl(RECORDS))
    (tmp_path / "fish.jsonl").write_bytes(jsonl(TARGET))
    (tmp_path / "sums.jsonl").write_bytes(jsonl(sums(2, 50)))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(**GRADIENTS),
        selection=ss.SelectionConfig(budget=ss.Budget(count=6), method=method),
    )
    files = [TargetFile("fish", tmp_path / "fish.jsonl", 2.0), TargetFile("sums", tmp_path / "sums.jsonl")]
    local = run(tmp_path / "pool.jsonl", config, targets=files)
    assert [pick["source_row"] for pick in picks] == [row.source_row for row in local.ranking]
    assert [pick["score"] for pick in picks] == pytest.approx([row.score for row in local.ranking], rel=1e-5)
    again = service.submit(ready["id"], budget={"count": 2}, method=method, gradients=GRADIENTS, targets=targets)
    assert again["gradients_reused"] is True
    assert service.drain() == 1
    other = service.submit(ready["id"], budget={"count": 2}, gradients=GRADIENTS)
    assert other["gradient_set_id"] != job["gradient_set_id"]
    assert other["gradients_reused"] is False
    page = service.http.get(f"/ui/jobs/{job['id']}").text
    assert {"bm25": "BM25 (words)", "embedding": "Embeddings (RDS+)"}[method] in page
    form = service.http.get("/ui/new", params={"like": job["id"]}).text
    assert f'<option value="{method}" selected' in form
    assert "gradients-measure" not in form, "it follows from the method"


def test_bm25_loads_no_model_in_the_worker(service: InProcessService, ready: dict[str, Any]) -> None:
    job = service.submit(ready["id"], method="bm25", gradients=GRADIENTS, targets=[{"name": "a", "rows": TARGET}])
    service.drain()
    loaded = service.runner.resources._loaded
    assert loaded is not None
    assert loaded[1].model is None
    done = service.job(job["id"])
    assert done["result"]["proxy"]["weights_sha256"] is None
    assert any("not of gradients" in note for note in done["result"]["notes"])


def test_evaluations_and_given_jobs_work_as_for_every_method(service: InProcessService, ready: dict[str, Any]) -> None:
    targets = [{"name": "fish", "rows": TARGET}]
    for method in ("bm25", "embedding"):
        first = service.submit(ready["id"], budget={"count": 4}, method=method, gradients=GRADIENTS, targets=targets)
        service.drain()
        more = service.submit(
            ready["id"],
            budget={"count": 4},
            method=method,
            gradients=GRADIENTS,
            targets=targets,
            given_job=first["id"],
            must_include=[0],
            exclude=[1],
        )
        service.drain()
        assert service.job(more["id"])["status"] == "succeeded", service.job(more["id"])["error"]
        rows = [pick["source_row"] for pick in chosen(service, more)]
        assert rows[0] == 0
        assert not {1, *(pick["source_row"] for pick in chosen(service, first))} & set(rows)


@pytest.mark.parametrize("method", ["bm25", "embedding"])
@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({}, "#/targets"),
        ({"targets": [{"name": "a", "rows": TARGET}], "selection": {"scope": {"kind": "windows"}}}, "#/targets"),
        ({"targets": [{"name": "a", "rows": TARGET}], "screens": {"loss_outliers": 3.0}}, "#/screens/loss_outliers"),
    ],
)
def test_what_a_method_cannot_serve_is_refused(
    service: InProcessService, ready: dict[str, Any], method: str, more: dict[str, Any], pointer: str
) -> None:
    body = {"dataset_id": ready["id"], "budget": {"count": 2}, "method": method, **more}
    problem = service.http.post("/v1/jobs", json=body)
    assert problem.status_code == 422
    assert problem.json()["code"] == "config-invalid"
    assert problem.json()["errors"][0]["pointer"] == pointer
