"""Why a row was selected, or not: by HTTP, in the client, on the command line and on the page."""

from __future__ import annotations

import html
from typing import Any

import pytest

from spice_select.client import Client
from tests.fixtures.commands import commands
from tests.fixtures.results import jsonl
from tests.fixtures.service import InProcessService
from tests.service.test_targets import ranking, records

INLINE = records(2, "sums", 90)


def said(record: dict[str, Any]) -> list[str]:
    return [record["instruction"], record["output"]]


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages]


def why(service: InProcessService, job: str, row: object) -> Any:
    return service.http.get(f"/v1/jobs/{job}/rows/{row}")


def test_every_row_of_a_pool_says_why_it_was_selected_or_not(service: InProcessService) -> None:
    rows: list[Any] = [*records(12, "sums"), *records(12, "tales"), *records(4, "games")]
    rows[5], rows[27] = dict(rows[0]), {"instruction": "", "output": "nothing", "group": "games"}
    wanted = [*records(2, "sums", 50), {"instruction": "", "output": "x", "group": "sums"}, *records(1, "sums", 60)]
    pool, other = service.push(jsonl(rows)), service.push(jsonl(wanted))
    targets = [
        {"name": "arithmetic", "dataset_id": other["id"], "weight": 2.0},
        {"name": "stories", "column": "group", "value": "tales", "rows": 3},
        {"name": "inline", "rows": INLINE},
    ]
    job = service.submit(pool["id"], budget={"count": 8}, targets=targets, exclude=[2], must_include=[3])["id"]
    service.drain()
    picks = {pick["source_row"]: pick for pick in ranking(service, job)}
    made_from = {"arithmetic": wanted, "stories": rows, "inline": INLINE}
    candidates = [row for row in range(28) if why(service, job, row).json()["status"] != "excluded"]
    codes = {}
    for row in range(28):
        found = why(service, job, row).json()
        assert found["source_row"] == row
        if row != 27:
            assert texts(found["messages"]) == said(rows[row])
            for near in found["nearest_targets"]:
                assert texts(near["messages"]) == said(made_from[near["target"]][near["row"]]), (row, near)
        if found["status"] == "excluded":
            assert found["why"].startswith(f"Row {row} was not a candidate."), found["why"]
            codes[row] = found["code"]
        elif row in picks:
            pick, near = picks[row], found["nearest_targets"][0]
            for name in ("rank", "target", "gain", "conflict", "score", "tokens", "nearest_pick"):
                assert found[name] == pick[name], name
            assert found["relevance"] == pytest.approx(pick["relevance"], abs=1e-9)
            assert (near["target"], near["row"]) == (pick["nearest_target"], pick["nearest_target_row"])
            assert f"as pick {pick['rank']} of 8, for the target '{pick['target']}'" in found["why"]
            assert (found["nearest_pick"] is None) == (pick["rank"] == 1)
        else:
            assert "was a candidate and was not selected" in found["why"]
            assert f"of {len(candidates)} candidates by relevance" in found["why"]
            assert texts(found["nearest_pick_messages"]) == said(rows[found["nearest_pick"]])
            assert found["nearest_pick_rank"] == picks[found["nearest_pick"]]["rank"]
    drawn = [row for row, code in codes.items() if code == "in-target"]
    assert len(drawn) == 3
    rest = {row: code for row, code in codes.items() if row not in drawn}
    assert rest == {2: "exclude", 5: "near-duplicate", 27: "no-prompt"} | {27: codes[27]}
    assert "of row 0, which is kept" in why(service, job, 5).json()["why"]
    assert "it must be included" in why(service, job, 3).json()["why"]


def test_a_row_that_is_not_there_and_jobs_without_evidence_are_problems(service: InProcessService) -> None:
    pool = service.push(jsonl(records(12, "sums")))["id"]
    whole, parts = service.submit(pool), service.submit(pool, selection={"scope": {"kind": "partitioned", "parts": 2}})
    early = why(service, whole["id"], 0)
    assert (early.status_code, early.json()["code"]) == (409, "conflict-state")
    assert early.headers["Retry-After"]
    service.drain()
    gone = why(service, whole["id"], 12)
    assert (gone.status_code, gone.json()["code"]) == (404, "not-found")
    finding = {"detail": gone.json()["detail"], "parameter": "row", "in": "path"}
    assert gone.json()["errors"] == [finding]
    assert "rows 0 to 11" in finding["detail"]
    for row in ("-1", "x", "1.0", str(2**60)):
        assert why(service, whole["id"], row).status_code == 422, row
    none = why(service, parts["id"], 0)
    assert (none.status_code, none.json()["code"]) == (409, "evidence-unavailable")
    names = {file["name"] for file in service.http.get(f"/v1/jobs/{parts['id']}/files").json()["data"]}
    assert "evidence.parquet" not in names


def test_numbers_stay_when_the_texts_are_deleted(service: InProcessService) -> None:
    pool = service.push(jsonl(records(12, "sums")))["id"]
    job = service.submit(pool, budget={"count": 3}, targets=[{"name": "inline", "rows": INLINE}])["id"]
    service.drain()
    before = why(service, job, 4).json()
    assert before["messages"]
    assert service.http.delete(f"/v1/datasets/{pool}").status_code == 204
    after = why(service, job, 4).json()
    assert (after["why"], after["messages"], after["nearest_pick_messages"]) == (before["why"], None, None)


def test_the_client_the_command_and_the_page_say_the_same(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = records(12, "sums")
    rows[4]["output"] = "<script>alert('x')</script>"
    pool = service.push(jsonl(rows))["id"]
    job = service.submit(pool, budget={"count": 3}, targets=[{"name": "inline", "rows": INLINE}])["id"]
    service.drain()
    row = ranking(service, job)[1]["source_row"]
    stated = why(service, job, row).json()
    url = str(service.http.base_url).rstrip("/")
    monkeypatch.setenv("SPICE_API_URL", url)
    with Client(url) as client:
        assert client.jobs.row(job, row).model_dump(mode="json") == stated
    spice = commands(capsys)
    assert spice("explain", job, str(row), "--json").json() == stated
    spoken = spice("explain", job, str(row)).out
    assert spoken.startswith(stated["why"])
    assert all(record["output"] in spoken for record in (*INLINE, rows[row]))
    assert spice("explain", job, "99").status == 1
    page = service.http.get(f"/ui/jobs/{job}/rows?row={row}")
    assert page.status_code == 200
    assert stated["why"] in html.unescape(page.text)
    for record in (*INLINE, rows[row]):
        assert html.escape(record["output"], quote=False) in page.text or record["output"] in html.unescape(page.text)
    assert "<script>alert" not in service.http.get(f"/ui/jobs/{job}/rows?row=4").text
    assert f"/ui/jobs/{job}/rows?row={row}" in service.http.get(f"/ui/jobs/{job}").text
    empty = service.http.get(f"/ui/jobs/{job}/rows")
    assert (empty.status_code, 'name="row"' in empty.text) == (200, True)
    for wrong, status in (("12", 404), ("one", 422), ("9" * 30, 422)):
        answer = service.http.get(f"/ui/jobs/{job}/rows?row={wrong}")
        assert (answer.status_code, 'role="alert"' in answer.text) == (status, True), wrong
    assert service.http.get("/ui/jobs/job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC/rows?row=1").status_code == 404
