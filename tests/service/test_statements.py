"""How many statements a request costs: each is a wait for the database, and they creep in one by one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from tests.fixtures.service import InProcessService, jsonl, sums

MOST_TO_POST = 17
"""Three of them ask what past jobs took and which workers there are, remembered for two seconds unless it is set
to zero, as here. One counts what the project holds against its quotas; on
PostgreSQL one keeps others from adding to it meanwhile, and one locks the project before its next event is numbered."""
MOST_TO_SHOW = {"succeeded": 1, "queued": 3}
MOST_TO_LIST = {"/ui": 5, "/v1/evaluations": 2}
MOST_FOR_A_PAGE = 4
"""In one transaction; one more while an evaluation runs, and one more for what was selected for which target."""


@contextmanager
def counted(service: InProcessService) -> Generator[list[str]]:
    """The statements of the API over the block."""
    engine, seen = service.app.state.services.jobs.database.engine, []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(" ".join(statement.split())[:150])

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_job_is_made_and_shown_with_few_statements(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(30)))["id"]
    body = {"dataset_id": dataset, "budget": {"count": 3}}
    first = any_service.http.post("/v1/jobs", json=body).json()
    for ready in (False, True):  # while its gradients are still to be measured, and on those that are there
        with counted(any_service) as posting:
            made = any_service.http.post(
                "/v1/jobs", json={**body, "deadline_seconds": 600}, headers={"Idempotency-Key": f"one-{ready}"}
            ).json()
        statements = [statement for statement in posting if not statement.startswith("BEGIN")]
        assert statements
        assert len(statements) <= MOST_TO_POST, "\n".join(statements)
        assert made["gradients_reused"] is ready
        with counted(any_service) as showing:
            shown = any_service.http.get(f"/v1/jobs/{made['id']}").json()
        assert shown["status"] == "queued"
        assert len([s for s in showing if not s.startswith("BEGIN")]) <= MOST_TO_SHOW["queued"], "\n".join(showing)
        # What the answer to the POST says is what is stored, the defaults of the database included.
        assert {**made, "queue": None} == {**shown, "queue": None}
        any_service.drain()
    with counted(any_service) as showing:
        assert any_service.http.get(f"/v1/jobs/{first['id']}").json()["status"] == "succeeded"
    assert len([s for s in showing if not s.startswith("BEGIN")]) <= MOST_TO_SHOW["succeeded"], "\n".join(showing)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets", "/v1/gradient-sets", "/ui"])
def test_a_list_costs_as_many_statements_whatever_its_length(service: InProcessService, path: str) -> None:
    dataset = service.push(jsonl(sums(30)))["id"]
    costs = []
    for number in (2, 6):
        for length in range(number):
            # Of another length each, so that every job waits for gradients of its own.
            body = {"dataset_id": dataset, "budget": {"count": 3}, "gradients": {"max_length": 64 + number + length}}
            assert service.http.post("/v1/jobs", json=body).status_code == 202
        with counted(service) as listing:
            assert service.http.get(path).status_code == 200
        costs.append([statement for statement in listing if not statement.startswith("BEGIN")])
    assert len(costs[0]) == len(costs[1]) <= MOST_TO_LIST.get(path, 2), "\n".join(costs[1])


def test_the_page_of_a_job_and_its_evaluations_cost_as_many_statements_whatever_there_is(
    service: InProcessService,
) -> None:
    dataset, holdout = service.push(jsonl(sums(30)))["id"], service.push(jsonl(sums(12, 1000)))["id"]
    job = service.submit(dataset)["id"]
    service.drain()
    costs = []
    with counted(service) as showing:
        assert service.http.get(f"/ui/jobs/{job}").status_code == 200
    assert len([statement for statement in showing if not statement.startswith("BEGIN")]) <= MOST_FOR_A_PAGE
    assert len([statement for statement in showing if statement.startswith("BEGIN")]) == 1, "\n".join(showing)
    for number in (1, 3):
        for _ in range(number):
            body = {"job_id": job, "holdout_dataset_id": holdout, "seeds": 2}
            assert service.http.post("/v1/evaluations", json=body).status_code == 202
        for path in (f"/ui/jobs/{job}", "/v1/evaluations"):
            with counted(service) as showing:
                assert service.http.get(path).status_code == 200
            costs.append([statement for statement in showing if not statement.startswith("BEGIN")])
    assert len(costs[0]) == len(costs[2]) <= MOST_FOR_A_PAGE + 1, "\n".join(costs[2])
    assert len(costs[1]) == len(costs[3]) <= MOST_TO_LIST["/v1/evaluations"], "\n".join(costs[3])
