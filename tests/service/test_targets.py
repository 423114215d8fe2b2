"""Jobs that select for targets: data sets, rows of the request, rows of the pool."""

from typing import Any

import pytest

from tests.fixtures.results import jsonl
from tests.fixtures.service import InProcessService


def records(count: int, group: str, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"{group}: add {number} and {number * 3}",
            "output": f"{number} + {number * 3} = {number * 4}",
            "group": group,
        }
        for number in range(first, first + count)
    ]


@pytest.fixture
def pool(service: InProcessService) -> dict[str, Any]:
    return service.push(jsonl([*records(12, "sums"), *records(12, "tales")]))


def ranking(service: InProcessService, job_id: str) -> list[dict[str, Any]]:
    return service.http.get(f"/v1/jobs/{job_id}/selection?limit=100").json()["data"]


def test_each_pick_serves_a_target_and_target_rows_leave_the_pool(
    service: InProcessService, pool: dict[str, Any]
) -> None:
    other = service.push(jsonl(records(4, "sums", 50)))
    targets = [
        {"name": "arithmetic", "dataset_id": other["id"], "weight": 2.0},
        {"name": "stories", "column": "group", "value": "tales", "rows": 3},
        {"name": "inline", "rows": records(2, "sums", 90)},
    ]
    everything = {"near_duplicates": None}
    job = service.submit(pool["id"], budget={"count": 8}, targets=targets, screens=everything)
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done
    assert done["result"]["excluded_by_code"] == {"in-target": 3}
    statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    stated = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    described = [item["annotations"] for item in stated if item["name"] == "target-dataset"]
    assert [(item["target"], item["rows"], item["weight"]) for item in described] == [
        ("arithmetic", 4, 2.0),
        ("stories", 3, 1.0),
        ("inline", 2, 1.0),
    ]
    picked = [row["target"] for row in ranking(service, job["id"])]
    assert [picked.count(name) for name in ("arithmetic", "stories", "inline")] == [4, 2, 2]


def test_the_same_targets_are_measured_once(service: InProcessService, pool: dict[str, Any]) -> None:
    targets = [{"name": "inline", "rows": records(2, "sums", 90)}]
    first = service.submit(pool["id"], budget={"count": 4}, targets=targets)
    service.drain()
    again = service.submit(pool["id"], budget={"count": 6}, targets=targets)
    assert again["gradients_reused"] is True
    service.drain()
    rows = [[row["source_row"] for row in ranking(service, job["id"])] for job in (first, again)]
    assert rows[1][:4] == rows[0]


@pytest.mark.parametrize(
    ("targets", "pointer"),
    [
        ([{"name": "a", "dataset_id": "ds_none"}], "#/targets/0/dataset_id"),
        ([{"name": "a", "dataset_id": "POOL"}], "#/targets/0/dataset_id"),
        ([{"name": "a", "rows": [{"nothing": 1}]}], "#/targets/0/rows"),
        ([{"name": "a", "rows": [*records(1, "x"), {"instruction": 3}]}], "#/targets/0/rows/1"),
        ([{"name": "a", "column": "group", "value": "tales", "rows": 13}], "#/targets/0/rows"),
        ([{"name": "a", "column": "none", "value": "tales", "rows": 1}], "#/targets/0/column"),
        ([{"name": "a", "rows": records(1, "x")}, {"name": "a", "rows": records(1, "y")}], "#/targets/1/name"),
        ([{"name": "a", "rows": records(1, "x"), "weight": 0}], "#/targets/0/weight"),
        ([{"name": "a", "rows": []}], "#/targets/0/rows"),
        ([{"name": "a"}], "#/targets/0"),
        ([{"name": str(number), "rows": records(1, "x")} for number in range(33)], "#/targets"),
    ],
)
def test_bad_targets_are_refused_with_a_pointer(
    service: InProcessService, pool: dict[str, Any], targets: list[dict[str, Any]], pointer: str
) -> None:
    asked = [
        {**target, "dataset_id": pool["id"]} if target.get("dataset_id") == "POOL" else target for target in targets
    ]
    body = {"dataset_id": pool["id"], "budget": {"count": 3}, "targets": asked}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code in {404, 422}, answer.json()
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert service.http.get("/v1/jobs").json()["data"] == []


def test_protected_sets_of_three_kinds_are_measured_with_the_targets_and_reported(
    service: InProcessService, pool: dict[str, Any]
) -> None:
    other = service.push(jsonl(records(4, "sums", 50)))
    protect = [
        {"name": "arithmetic", "dataset_id": other["id"], "weight": 2.0},
        {"name": "stories", "column": "group", "value": "tales", "rows": 3},
        {"name": "inline", "rows": records(2, "sums", 90)},
    ]
    targets = [{"name": "goal", "column": "group", "value": "tales", "rows": 3}]
    settings = {"screens": {"near_duplicates": None}, "selection": {"protect_weight": 2.0}}
    job = service.submit(pool["id"], budget={"count": 6}, targets=targets, protect=protect, **settings)
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done
    counts = done["result"]["excluded_by_code"]
    assert counts["in-target"] == 3
    assert 0 <= counts.get("in-protected", 0) <= 3
    report = done["result"]["protected"]
    assert [(one["name"], one["rows"], one["weight"]) for one in report] == [
        ("arithmetic", 4, 2.0),
        ("stories", 3, 1.0),
        ("inline", 2, 1.0),
    ]
    assert {one["selected"]["rows"] for one in report} == {6}
    assert {one["pool"]["rows"] for one in report} == {24 - sum(counts.values())}
    assert {row["target"] for row in ranking(service, job["id"])} == {"goal"}
    statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    stated = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    names = [item["annotations"]["protected"] for item in stated if item["name"] == "protected-dataset"]
    assert names == ["arithmetic", "stories", "inline"]


def test_a_job_may_protect_without_a_target(service: InProcessService, pool: dict[str, Any]) -> None:
    job = service.submit(pool["id"], budget={"count": 4}, protect=[{"name": "inline", "rows": records(2, "sums", 90)}])
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done
    assert done["result"]["notice"].startswith("No target was given")
    assert done["result"]["protected"][0]["selected"]["rows"] == 4
    assert {row["target"] for row in ranking(service, job["id"])} == {None}


@pytest.mark.parametrize(
    ("protect", "pointer"),
    [
        ([{"name": "a", "dataset_id": "ds_none"}], "#/protect/0/dataset_id"),
        ([{"name": "a", "dataset_id": "POOL"}], "#/protect/0/dataset_id"),
        ([{"name": "a", "rows": [{"nothing": 1}]}], "#/protect/0/rows"),
        ([{"name": "a", "rows": records(1, "x")}, {"name": "a", "rows": records(1, "y")}], "#/protect/1/name"),
        ([{"name": "goal", "rows": records(1, "x")}], "#/protect/0/name"),
        ([{"name": "a", "rows": records(2, "goal")}], "#/protect/0"),
        ([{"name": "a", "rows": records(1, "x"), "weight": 0}], "#/protect/0/weight"),
        ([{"name": "a", "rows": []}], "#/protect/0/rows"),
        ([{"name": "a"}], "#/protect/0"),
        ([{"name": str(number), "rows": records(1, "x")} for number in range(9)], "#/protect"),
    ],
)
def test_bad_protected_sets_are_refused_with_a_pointer(
    service: InProcessService, pool: dict[str, Any], protect: list[dict[str, Any]], pointer: str
) -> None:
    asked = [{**one, "dataset_id": pool["id"]} if one.get("dataset_id") == "POOL" else one for one in protect]
    targets = [{"name": "goal", "rows": records(2, "goal")}]
    body = {"dataset_id": pool["id"], "budget": {"count": 3}, "targets": targets, "protect": asked}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code in {404, 422}, answer.json()
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    body = {"dataset_id": pool["id"], "budget": {"count": 3}, "protect": records(1, "x"), "method": "random"}
    assert service.http.post("/v1/jobs", json=body).status_code == 422
    assert service.http.get("/v1/jobs").json()["data"] == []


def test_quotas_from_targets_hold_the_selection_to_their_mix(service: InProcessService, pool: dict[str, Any]) -> None:
    targets = [{"name": "tales", "rows": records(4, "tales", 70)}]
    body = {"targets": targets, "screens": {"near_duplicates": None}}
    quotas = {"column": "group", "from_targets": True}
    job = service.submit(pool["id"], budget={"count": 8}, selection={"quotas": quotas}, **body)
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done
    found = done["result"]["composition"]
    groups = {group["name"]: group for group in found["groups"]["groups"]}
    assert sum(group["implied"] for group in groups.values()) == pytest.approx(1.0)
    assert groups["tales"]["implied"] > 0.5
    assert {name: group["selected"] for name, group in groups.items() if group["selected"]} == found["floors"]
    assert sum(found["floors"].values()) == 8
    cut = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl?k=3")
    assert (cut.status_code, cut.json()["code"]) == (422, "prefix-undefined")
    for wrong in ({"targets": []}, {"budget": {"tokens": 500}}):
        asked = {"dataset_id": pool["id"], "budget": {"count": 8}, "selection": {"quotas": quotas}, **body, **wrong}
        answer = service.http.post("/v1/jobs", json=asked)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "#/selection/quotas/from_targets"
