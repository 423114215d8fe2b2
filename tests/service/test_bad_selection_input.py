"""Bad input to a selection over HTTP: refused when the job is posted, before gradients are computed for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.service import InProcessService, jsonl, sums

SMALL = {"sketch_dim": 4, "max_length": 128}


def grouped() -> list[dict[str, Any]]:
    return [{**record, "domain": "a/b" if i < 9 else "code"} for i, record in enumerate(sums(12))]


@pytest.fixture(scope="module")
def pool(shared_service: InProcessService) -> dict[str, Any]:
    return shared_service.push(jsonl(grouped()))


def quotas(**limits: Any) -> dict[str, Any]:
    return {"quotas": {"column": "domain", **limits}}


WINDOWS = {"kind": "windows", "size": 5}
PARTS = {"kind": "partitioned", "parts": 2}


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"budget": {"count": 13}}, "budget-exceeds-pool", "#/budget/count"),
        (
            {"selection": quotas(floors={"code": 4}), "budget": {"count": 9}},
            "budget-exceeds-pool", "#/selection/quotas/floors/code",
        ),
        ({"selection": quotas(floors={"law": 1})}, "budget-exceeds-pool", "#/selection/quotas/floors/law"),
        ({"selection": quotas(floors={"a/b": 3, "code": 2})}, "budget-exceeds-pool", "#/selection/quotas/floors"),
        ({"selection": quotas(caps={"a/b": 1, "code": 2})}, "budget-exceeds-pool", "#/selection/quotas/caps"),
        (
            {"selection": quotas(floors={"code": 3}), "exclude": [10], "budget": {"count": 5}},
            "budget-exceeds-pool", "#/selection/quotas/floors/code",
        ),
        ({"selection": quotas(floors={"code": 3}, caps={"code": 2})}, "validation-error", "#/selection/quotas"),
        ({"selection": {"scope": WINDOWS, **quotas()}}, "config-invalid", "#/selection/quotas"),
        ({"selection": {"scope": PARTS, **quotas()}}, "config-invalid", "#/selection/quotas"),
        ({"selection": {"scope": WINDOWS}, "budget": {"tokens": 50}}, "config-invalid", "#/budget/tokens"),
        ({"selection": {"scope": PARTS}, "budget": {"tokens": 50}}, "config-invalid", "#/budget/tokens"),
        (
            {"selection": {"scope": {**WINDOWS, "per_window": 1}}, "budget": {"count": 4}},
            "budget-exceeds-pool", "#/selection/scope/per_window",
        ),
        ({"selection": {"stop_ratio": 0.0}}, "validation-error", "#/selection/stop_ratio"),
        ({"selection": {"stop_ratio": 1}}, "validation-error", "#/selection/stop_ratio"),
        ({"selection": {"alpha": 0}}, "validation-error", "#/selection/alpha"),
        ({"selection": {"alpha": -1.5}}, "validation-error", "#/selection/alpha"),
        ({"method": "less"}, "config-invalid", "#/targets"),
    ],
    ids=str,
)  # fmt: skip
def test_it_is_refused_at_once(
    shared_service: InProcessService, pool: dict[str, Any], body: dict[str, Any], code: str, pointer: str
) -> None:
    asked = {"dataset_id": pool["id"], "budget": {"count": 4}, "gradients": SMALL, **body}
    problem = shared_service.http.post("/v1/jobs", json=asked).json()
    estimate = shared_service.http.post("/v1/estimates", json=asked).json()
    assert (estimate["code"], estimate["errors"]) == (problem["code"], problem["errors"])
    assert (problem["status"], problem["code"]) == (422, code), problem
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert shared_service.http.get("/v1/jobs").json()["data"] == []
    assert shared_service.http.get("/v1/gradient-sets").json()["data"] == []


def test_quotas_that_can_be_met_are_met(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(grouped()))
    selection = quotas(floors={"code": 3}, caps={"a/b": 1})
    job = any_service.submit(dataset["id"], budget={"count": 4}, selection=selection)
    any_service.drain()
    assert any_service.job(job["id"])["status"] == "succeeded"
    data = any_service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    assert sum(sample["source_row"] >= 9 for sample in data) == 3


def test_a_token_budget_below_the_shortest_row_is_refused_once_lengths_are_known(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(5)))
    early = any_service.submit(dataset["id"], budget={"tokens": 3})
    any_service.drain()
    failed = any_service.job(early["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "budget-exceeds-pool"), "found out by measuring"
    asked = {"dataset_id": dataset["id"], "budget": {"tokens": 3}, "gradients": SMALL}
    problem = any_service.http.post("/v1/jobs", json=asked).json()
    assert any_service.http.post("/v1/estimates", json=asked).json()["errors"] == problem["errors"]
    assert (problem["status"], problem["code"]) == (422, "budget-exceeds-pool")
    assert problem["errors"][0]["pointer"] == "#/budget/tokens"
    shortest = int(problem["detail"].rsplit(" ", 1)[-1])
    exact = any_service.submit(dataset["id"], budget={"tokens": shortest})
    any_service.drain()
    assert any_service.job(exact["id"])["result"]["tokens_selected"] == shortest


def test_identical_rows_are_chosen_in_the_order_of_the_source(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(1) * 6))
    job = any_service.submit(dataset["id"], budget={"count": 3})
    any_service.drain()
    data = any_service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    assert [sample["source_row"] for sample in data] == [0, 1, 2]
