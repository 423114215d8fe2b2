"""Lists that are filtered and sorted, and whose cursors hold in every order."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from spice_select.client import Client
from tests.fixtures.service import InProcessService, jsonl, sums

NAMES = ["b", "Übung", None, "a", "b", "100% _ready_", "a"]


@pytest.fixture
def jobs(any_service: InProcessService) -> dict[str, Any]:
    """Jobs of many names, methods and targets; ids in the order they were made."""
    dataset = any_service.push(jsonl(sums(20)))["id"]
    made = []
    for number, name in enumerate(NAMES):
        body: dict[str, Any] = {"name": name, "metadata": {"team": "a" if number % 2 else "b"}}
        if number == 1:
            body["method"] = "random"
        if number == 3:
            body["targets"] = [{"name": "math 'x'", "rows": [{**row, "name": "not a target"} for row in sums(2, 500)]}]
        made.append(any_service.submit(dataset, **body)["id"])
    return {"dataset": dataset, "ids": made}


def pages(service: InProcessService, path: str, limit: int = 2, **query: Any) -> list[dict[str, Any]]:
    """Every entry of a list, page by page."""
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        answer = service.http.get(path, params={**query, **after, "limit": limit})
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        if not answer.json()["has_more"]:
            return found
        after = {"after": answer.json()["next_cursor"]}


def test_jobs_are_found_by_name_text_method_target_and_tag(any_service: InProcessService, jobs: dict[str, Any]) -> None:
    ids = jobs["ids"]

    def found(**query: Any) -> list[int]:
        return sorted(ids.index(job["id"]) for job in pages(any_service, "/v1/jobs", **query))

    assert found(name="b") == [0, 4]
    assert found(q="B") == [0, 1, 4]  # Übung has one
    assert found(q="Übung") == [1]
    assert found(q="%") == found(q="_") == [5], "no wildcards"
    assert found(q=ids[2]) == [2]
    assert found(method="random") == [1]
    assert found(target="math 'x'") == [3]
    assert found(target="not a target") == []
    [rows] = [one for one in pages(any_service, "/v1/datasets", include="internal") if one["internal"]]
    assert found(target=rows["id"]) == [3]
    assert found(q="a", metadata="team=a") == [3, 5]
    assert found(dataset_id=jobs["dataset"], method="spice", q="nothing like it") == []


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_every_order_is_paged_without_a_gap_or_a_repetition(
    any_service: InProcessService, jobs: dict[str, Any], limit: int
) -> None:
    ids = jobs["ids"]

    def ordered(sort: str) -> list[int]:
        return [ids.index(job["id"]) for job in pages(any_service, "/v1/jobs", limit, sort=sort)]

    assert ordered("newest") == [6, 5, 4, 3, 2, 1, 0]
    assert ordered("oldest") == [0, 1, 2, 3, 4, 5, 6]
    by_name = ordered("name")
    assert sorted(by_name) == list(range(7))
    assert by_name[0] == 2, "no name comes first"
    assert [number for number in by_name if NAMES[number] in {"a", "b"}] == [6, 3, 4, 0]


def test_a_cursor_of_one_order_is_refused_in_another(any_service: InProcessService, jobs: dict[str, Any]) -> None:
    assert jobs
    cursors = {}
    for sort in ("newest", "oldest", "name"):
        cursors[sort] = any_service.http.get("/v1/jobs", params={"sort": sort, "limit": 1}).json()["next_cursor"]
    for sort in cursors:
        for other, cursor in cursors.items():
            answer = any_service.http.get("/v1/jobs", params={"sort": sort, "after": cursor})
            assert answer.status_code == (200 if sort == other else 422), (sort, other)
    for query in ({"sort": "size"}, {"method": "magic"}, {"q": ""}, {"include": "all"}):
        assert any_service.http.get("/v1/jobs", params=query).status_code == 422


def test_target_rows_of_jobs_are_not_in_the_list_of_data_sets_and_go_with_the_last_job(
    any_service: InProcessService, jobs: dict[str, Any]
) -> None:
    shown = pages(any_service, "/v1/datasets")
    assert [dataset["id"] for dataset in shown] == [jobs["dataset"]]
    every = pages(any_service, "/v1/datasets", include="internal")
    rows = [dataset for dataset in every if dataset["internal"]]
    assert len(every) == 2
    assert rows[0]["name"] == f"targets of {jobs['ids'][3]}"
    assert "targets of" not in any_service.http.get("/ui/datasets").text
    job = jobs["ids"][3]
    any_service.http.post(f"/v1/jobs/{job}/cancel")
    again = any_service.http.post(f"/v1/jobs/{job}/retry").json()["id"]
    assert any_service.http.delete(f"/v1/jobs/{job}").status_code == 204
    assert len(pages(any_service, "/v1/datasets", include="internal")) == 2, "the other job has the same rows"
    any_service.drain()
    assert any_service.job(again)["status"] == "succeeded"
    before = {path.name for path in (any_service.settings.data_dir / "objects").rglob("*") if path.is_file()}
    assert any_service.http.delete(f"/v1/jobs/{again}").status_code == 204
    assert len(pages(any_service, "/v1/datasets", include="internal")) == 1
    after = {path.name for path in (any_service.settings.data_dir / "objects").rglob("*") if path.is_file()}
    assert rows[0]["digest"]["sha256"] in before - after


def test_the_client_and_the_page_use_the_filters(any_service: InProcessService, jobs: dict[str, Any]) -> None:
    ids = jobs["ids"]
    with Client(str(any_service.http.base_url)) as client:
        assert [job.id for job in client.jobs.list(method="random", sort="oldest")] == [ids[1]]
        assert [job.id for job in client.jobs.list(name="a", sort="oldest")] == [ids[3], ids[6]]
        assert len(list(client.datasets.list(internal=True))) == 2
        assert len(list(client.datasets.list(q="pool"))) == 1
    page = any_service.http.get("/ui", params={"q": "Übung", "sort": "name"}).text
    assert ids[1] in page
    assert ids[0] not in page
    nothing = any_service.http.get("/ui", params={"q": "zzz", "method": "random"}).text
    assert "No job is like this" in nothing
    assert 'value="zzz"' in nothing


def test_names_have_an_index(any_service: InProcessService) -> None:
    database = any_service.runner.database
    with database.read() as session:
        if session.get_bind().dialect.name == "sqlite":
            query = "EXPLAIN QUERY PLAN SELECT * FROM job WHERE project_id = 'p' AND name = 'x' ORDER BY id DESC"
            plan = " ".join(str(row) for row in session.execute(text(query)))
            assert "ix_job_project_id_name_id" in plan
