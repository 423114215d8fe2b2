"""Jobs with a prefilter: their units, what they share, what is told of rows that got no gradient, and lost files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import spice_select as ss
from app.status import UnitKind, UnitState
from spice_select.config import Prefilter
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from tests.fixtures.service import InProcessService, jsonl, sums

GRADIENTS = {"sketch_dim": 4, "max_length": 64}
FISH = [{"instruction": f"Name fish number {i}.", "output": f"A cod of the ocean, no {i}."} for i in range(20)]
RECORDS = [record for pair in zip(sums(20), FISH, strict=True) for record in pair]
TARGET = [{"instruction": "Name a fish.", "output": "A cod of the ocean."}]
ASKED: dict[str, Any] = {
    "budget": {"count": 4},
    "gradients": GRADIENTS,
    "targets": [{"name": "fish", "rows": TARGET}],
    "prefilter": {"method": "bm25", "keep": 0.25},
}


@pytest.fixture
def ready(service: InProcessService) -> dict[str, Any]:
    return service.push(jsonl(RECORDS))


def chosen(service: InProcessService, job: dict[str, Any]) -> list[int]:
    return [pick["source_row"] for pick in service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]]


@pytest.mark.parametrize("method", ["bm25", "embedding"])
def test_a_job_is_a_run(service: InProcessService, ready: dict[str, Any], method: Any, tmp_path: Path) -> None:
    asked = {**ASKED, "prefilter": {"method": method, "keep": 0.25}}
    estimate = service.http.post("/v1/estimates", json={"dataset_id": ready["id"], **asked}).json()
    assert (estimate["rows"], estimate["measured_rows"]) == (40, 10)
    assert any("ranking 40 rows" in note for note in estimate["notes"])
    whole = service.http.post("/v1/estimates", json={"dataset_id": ready["id"], **{**asked, "prefilter": None}}).json()
    assert whole["gradient_bytes"] == 4 * estimate["gradient_bytes"]
    assert service.http.get("/v1/gradient-sets").json()["data"] == [], "an estimate makes nothing"
    job = service.submit(ready["id"], **asked)
    assert job["phase"] == "waiting_for_worker"
    assert service.drain() == 4, "a ranking, a shard of the pool, one of the targets, a selection"
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done["error"]
    result = done["result"]
    assert result["excluded_by_code"] == {"prefiltered": 30}
    assert result["pool"] == result["prefilter"]["kept"] == 10
    assert result["seconds"]["prefiltering"] >= 0
    (tmp_path / "pool.jsonl").write_bytes(jsonl(RECORDS))
    (tmp_path / "fish.jsonl").write_bytes(jsonl(TARGET))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(**GRADIENTS),
        selection=ss.SelectionConfig(budget=ss.Budget(count=4)),
        conditions=ss.Conditions(prefilter=Prefilter(method=method, keep=0.25)),
    )
    local = run(tmp_path / "pool.jsonl", config, targets=[TargetFile("fish", tmp_path / "fish.jsonl")])
    assert chosen(service, job) == [row.source_row for row in local.ranking]
    listed = {item["source_row"]: item["detail"] for item in result["excluded_samples"]}
    assert listed == {item["row"]: item["detail"] for item in local.excluded}
    row = min(listed)
    explained = service.http.get(f"/v1/jobs/{job['id']}/rows/{row}").json()
    assert explained["code"] == "prefiltered"
    assert f"by {method}, the first 10 are kept" in explained["why"]
    assert "The prefilter left it out" in explained["why"]
    events = service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    told = next(event for event in events if event["type"] == "job.prefiltered")
    assert told["data"]["kept"] == 10
    log = service.http.get(f"/v1/jobs/{job['id']}/logs", params={"limit": 1000}).json()["data"]
    assert next(line["unit_kind"] for line in log if line["code"] == "committed") == "prefilter"
    statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    named = {item["name"]: item for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert named["prefilter"]["digest"]["sha256"] == told["data"]["sha256"]
    page = service.http.get(f"/ui/jobs/{job['id']}").text
    assert f"the prefilter {method} kept 10 of 40" in page
    form = service.http.get("/ui/new", params={"like": job["id"]}).text
    assert 'name="prefilter-keep"' in form
    assert 'value="0.25"' in form


def test_jobs_with_one_ranking_share_it_and_others_do_not(service: InProcessService, ready: dict[str, Any]) -> None:
    job = service.submit(ready["id"], **ASKED)
    service.drain()
    again = service.submit(ready["id"], **{**ASKED, "budget": {"count": 6}})
    assert again["gradients_reused"] is True
    assert service.drain() == 1
    assert service.job(again["id"])["result"]["prefilter"] == service.job(job["id"])["result"]["prefilter"]
    wider = service.submit(ready["id"], **{**ASKED, "prefilter": {"method": "bm25", "keep": 0.5}})
    assert wider["gradient_set_id"] != job["gradient_set_id"]
    assert wider["target_gradient_set_id"] == job["target_gradient_set_id"]
    assert service.drain() == 3, "a ranking, a shard, a selection"
    more = service.submit(ready["id"], **ASKED, extends_job_id=job["id"], must_include=[0], exclude=[1])
    service.drain()
    assert service.job(more["id"])["status"] == "succeeded", service.job(more["id"])["error"]
    rows = chosen(service, more)
    assert rows[0] == 0
    assert not {1, *chosen(service, job)} & set(rows)


def test_gradients_wait_for_the_ranking_and_a_lost_one_is_made_again(
    service: InProcessService, ready: dict[str, Any]
) -> None:
    asked = {**ASKED, "gradients": {**GRADIENTS, "warmup_steps": 1}}
    job = service.submit(ready["id"], **asked)
    kinds = []
    units = service.runner.units
    while (claim := units.claim_next("somebody")) is not None:
        kinds.append(claim.kind)
        if claim.kind == UnitKind.GRADIENTS and kinds.count(UnitKind.PREFILTER) == 1:
            with service.runner.database.read() as session:
                from app.persistence.repositories import Units

                (made,) = [
                    commit.artifact_sha256
                    for unit, commit in Units(session).preparations(job["gradient_set_id"])
                    if unit.kind == UnitKind.PREFILTER and unit.state == UnitState.DONE
                ] or [None]
            if claim.gradient_set_id == job["gradient_set_id"] and made is not None:
                service.runner.resources.store.path(claim.project_id, made).unlink(missing_ok=True)
        service.runner.run_claim(claim)
    assert kinds.index(UnitKind.PREFILTER) < kinds.index(UnitKind.SELECT)
    assert kinds.count(UnitKind.PREFILTER) == 2, kinds
    assert service.job(job["id"])["status"] == "succeeded", service.job(job["id"])["error"]


def test_a_cancelled_job_leaves_no_ranking_to_do(service: InProcessService, ready: dict[str, Any]) -> None:
    job = service.submit(ready["id"], **ASKED)
    assert service.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    assert service.drain() == 0


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"prefilter": {"method": "bm25", "keep": 0}}, "validation-error", "#/prefilter/keep"),
        ({"prefilter": {"method": "bm25", "keep": 1}}, "validation-error", "#/prefilter/keep"),
        ({"prefilter": {"method": "bm25", "keep": 7}}, "validation-error", "#/prefilter/keep"),
        ({"prefilter": {"method": "bm25", "keep": "0.2"}}, "validation-error", "#/prefilter/keep"),
        ({"prefilter": {"method": "words", "keep": 0.2}}, "validation-error", "#/prefilter/method"),
        ({"prefilter": {"keep": 0.2}}, "validation-error", "#/prefilter/method"),
        ({"prefilter": {"method": "bm25", "keep": 0.05}}, "budget-exceeds-pool", "#/prefilter/keep"),
        ({"targets": []}, "config-invalid", "#/prefilter"),
        ({"method": "embedding"}, "config-invalid", "#/prefilter"),
        (
            {"schedule": {"kind": "periodic"}, "selection": {"scope": {"kind": "windows"}}, "targets": []},
            "config-invalid",
            "#/prefilter",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    service: InProcessService, ready: dict[str, Any], change: dict[str, Any], code: str, pointer: str
) -> None:
    for route in ("jobs", "estimates"):
        answer = service.http.post(f"/v1/{route}", json={"dataset_id": ready["id"], **ASKED, **change})
        assert answer.status_code == 422
        assert answer.json()["code"] == code, answer.json()
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_targets_from_a_column_leave_the_pool(service: InProcessService) -> None:
    rows = [{**record, "kind": "fish" if "fish" in record["instruction"] else "sum"} for record in RECORDS]
    ready = service.push(jsonl(rows))
    target = {"name": "fish", "column": "kind", "value": "fish", "rows": 5}
    job = service.submit(ready["id"], **{**ASKED, "targets": [target]})
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done["error"]
    assert done["result"]["excluded_by_code"] == {"in-target": 5, "prefiltered": 25}
