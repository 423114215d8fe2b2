"""What is settled before the choice, over HTTP: rows to include and exclude, and a choice that is owned already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.persistence.repositories import Units
from spice_select.results.verify import verify_folder
from spice_select.storage.shards import read_shard
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.reference.selection import conditioned_select, utility

BROKEN = {"instruction": "Say nothing.", "output": ""}
"""Row 3 of the data set cannot be used, so that rows of the source and of the pool are numbered differently."""


@pytest.fixture
def ready(any_service: InProcessService) -> dict[str, Any]:
    records = sums(16)
    return any_service.push(jsonl([*records[:3], BROKEN, *records[3:]]))


def chosen(service: InProcessService, job_id: str) -> list[int]:
    data = service.http.get(f"/v1/jobs/{job_id}/selection").json()["data"]
    return [sample["source_row"] for sample in data]


def finished(service: InProcessService, dataset_id: str, **body: Any) -> dict[str, Any]:
    job = service.submit(dataset_id, **body)
    service.drain()
    return service.job(job["id"])


def features(service: InProcessService, job_id: str) -> tuple[Any, list[int]]:
    """The gradients that the job chose by, float64, and the row of the source of each."""
    with service.runner.database.read() as session:
        found = Units(session).shard_commits(service.job(job_id)["gradient_set_id"])
        paths = [service.runner.store.path(unit.project_id, commit.artifact_sha256 or "") for unit, commit in found]
    shards = [read_shard(path) for path in paths]
    rows = [row + (row >= 3) for shard in shards for row in shard.rows.tolist()]
    return np.concatenate([shard.features for shard in shards]).astype(np.float64), rows


def test_rows_to_include_come_first_and_excluded_rows_never(
    any_service: InProcessService, ready: dict[str, Any], tmp_path: Any
) -> None:
    free = finished(any_service, ready["id"], budget={"count": 6})
    best = chosen(any_service, free["id"])
    forced = [row for row in range(17) if row not in best and row != 3][-2:]
    job = finished(any_service, ready["id"], budget={"count": 6}, must_include=forced, exclude=best[:2])
    assert job["status"] == "succeeded", job["error"]
    rows = chosen(any_service, job["id"])
    assert set(rows[:2]) == set(forced)
    assert not set(rows) & set(best[:2])
    conditions = dict(job["config"]["conditions"])
    assert conditions.pop("screens")["loss_outliers"] is None
    assert conditions == {
        "must_include": forced,
        "exclude": best[:2],
        "given_job": None,
        "target_dataset_id": None,
        "targets": [],
        "protect": [],
        "prefilter": None,
    }
    statement = any_service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    stated = statement["predicate"]["buildDefinition"]["externalParameters"]["config"]["conditions"]
    assert stated == job["config"]["conditions"]
    out = tmp_path / "out"
    out.mkdir()
    for file in any_service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]:
        body = any_service.http.get(f"/v1/jobs/{job['id']}/files/{file['name']}").content
        (out / file["name"]).write_bytes(body)
    verify_folder(out).raise_if_failed()
    assert "2 rows had to be included and come first; 2 rows were excluded" in (out / "README.md").read_text()


def test_what_is_given_is_conditioned_on_and_not_chosen_again(
    any_service: InProcessService, ready: dict[str, Any]
) -> None:
    first = finished(any_service, ready["id"], budget={"count": 4}, preset=None)
    owned = chosen(any_service, first["id"])
    job = finished(any_service, ready["id"], budget={"count": 5}, given_job=first["id"], preset=None)
    assert job["status"] == "succeeded", job["error"]
    assert job["gradients_reused"] is True
    rows = chosen(any_service, job["id"])
    assert not set(rows) & set(owned)
    gradients, sources = features(any_service, job["id"])
    place = {row: index for index, row in enumerate(sources)}

    def value(these: Sequence[int]) -> float:
        return utility(gradients[[place[row] for row in these]], 1.0)

    added = value([*owned, *rows]) - value(owned)
    assert job["result"]["utility"] == pytest.approx(added, rel=1e-9)
    assert job["result"]["random_control"]["utility"] <= added + 1e-9
    mine = [place[row] for row in owned]
    dense = conditioned_select(gradients, gradients[mine], alpha=1.0, penalty=0.1, count=5, forbidden=mine)
    assert rows == [sources[row] for row in dense]
    statement = any_service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    given = next(item for item in dependencies if item["name"] == "given-selection")
    files = any_service.http.get(f"/v1/jobs/{first['id']}/files").json()["data"]
    ranking = next(file["sha256"] for file in files if file["name"] == "ranking.parquet")
    assert given["uri"] == f"spice:job/{first['id']}"
    assert given["digest"] == {"sha256": ranking}


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"must_include": [1, 3]}, 422, "pool-invalid", "#/must_include/1"),
        ({"must_include": [17]}, 422, "pool-invalid", "#/must_include/0"),
        ({"exclude": [0, 99]}, 422, "pool-invalid", "#/exclude/1"),
        ({"must_include": [1, 2], "exclude": [5, 2]}, 422, "config-invalid", "#/exclude/1"),
        ({"must_include": [0, 1, 2, 4]}, 422, "budget-exceeds-pool", "#/must_include"),
        ({"must_include": [-1]}, 422, "validation-error", "#/must_include/0"),
        ({"must_include": ["1"]}, 422, "validation-error", "#/must_include/0"),
        ({"must_include": [True]}, 422, "validation-error", "#/must_include/0"),
        ({"exclude": list(range(10_001))}, 422, "validation-error", "#/exclude"),
        ({"budget": {"count": 15}, "exclude": [0, 1]}, 422, "budget-exceeds-pool", "#/budget/count"),
        ({"given_job": "job_none"}, 404, "not-found", "#/given_job"),
        ({"selection": {"scope": {"kind": "windows"}}, "exclude": [1]}, 422, "config-invalid", "#/exclude"),
        (
            {"selection": {"scope": {"kind": "partitioned", "parts": 2}}, "must_include": [1]},
            422,
            "config-invalid",
            "#/must_include",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None,
)
def test_what_cannot_be_met_is_refused_at_once(
    service: InProcessService, change: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    records = sums(16)
    dataset = service.push(jsonl([*records[:3], BROKEN, *records[3:]]))
    response = service.http.post("/v1/jobs", json={"dataset_id": dataset["id"], "budget": {"count": 3}, **change})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert service.http.get("/v1/gradient-sets").json()["data"] == [], "nothing is computed for it"


def test_excluding_a_row_that_cannot_be_used_takes_nothing_from_the_budget(
    any_service: InProcessService, ready: dict[str, Any]
) -> None:
    job = finished(any_service, ready["id"], budget={"count": 16}, exclude=[3])
    assert (job["status"], job["result"]["selected"]) == ("succeeded", 16)


def test_only_a_finished_choice_on_the_same_gradients_can_be_given(
    any_service: InProcessService, ready: dict[str, Any]
) -> None:
    def refused(**body: Any) -> tuple[int, str, str]:
        asked = {"dataset_id": ready["id"], "budget": {"count": 3}, "gradients": {"sketch_dim": 4, "max_length": 128}}
        response = any_service.http.post("/v1/jobs", json={**asked, **body})
        problem = response.json()
        return response.status_code, problem["code"], problem["errors"][0]["pointer"]

    waiting = any_service.submit(ready["id"])
    assert refused(given_job=waiting["id"]) == (409, "given-job-not-finished", "#/given_job")
    any_service.drain()
    rows = chosen(any_service, waiting["id"])
    mismatch = (422, "given-job-unusable", "#/given_job")
    assert refused(given_job=waiting["id"], gradients={"sketch_dim": 5, "max_length": 128}) == mismatch
    other = finished(any_service, any_service.push(jsonl(sums(5, 100)))["id"])
    assert refused(given_job=other["id"]) == mismatch
    stopped = any_service.submit(ready["id"])
    any_service.http.post(f"/v1/jobs/{stopped['id']}/cancel")
    assert refused(given_job=stopped["id"]) == mismatch
    assert refused(given_job=waiting["id"], must_include=[rows[1]]) == (422, "config-invalid", "#/must_include/0")
    assert refused(given_job=waiting["id"], budget={"count": 14}) == (422, "budget-exceeds-pool", "#/budget/count")


def test_a_row_that_turns_out_to_be_no_candidate_fails_the_job_by_name(
    any_service: InProcessService, ready: dict[str, Any]
) -> None:
    records = sums(6)
    records[4]["instruction"] = "long " * 200
    dataset = any_service.push(jsonl(records))
    gradients = {"sketch_dim": 4, "max_length": 64, "overflow": "exclude"}
    job = finished(any_service, dataset["id"], must_include=[1, 4], gradients=gradients)
    assert (job["status"], job["error"]["code"]) == ("failed", "pool-invalid")
    finding = job["error"]["errors"][0]
    assert finding["pointer"] == "#/must_include/1"
    assert finding["detail"].startswith("row 4 is no candidate: ")
