"""Slips of the pen in a request are told with a pointer to them, and are never half understood."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import httpx
import pytest

from app.api.pagination import encode_cursor
from app.api.problems import MOST_DETAIL, MOST_POINTER
from app.status import EventType
from tests.contracts.packages import ROOT
from tests.fixtures.service import InProcessService, jsonl, sums

ULID = "01K9RZ3V5X8N3Q2J6T4W7Y0ABC"


@pytest.fixture(scope="module")
def dataset_id(shared_service: InProcessService) -> str:
    return str(shared_service.push(jsonl(sums(8)))["id"])


def told(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and the first place that an answer names: a pointer, or the name of a parameter."""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    place = problem["errors"][0] if problem["errors"] else {}
    return answer.status_code, problem["code"], place.get("pointer", place.get("parameter"))


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("stauts=failed", "stauts"),
        ("status=queued&status=failed", "status"),
        ("limit=1&limit=2", "limit"),
        ("Limit=1", "Limit"),
        ("dataset_id=nonsense", "dataset_id"),
        (f"dataset_id=job_{ULID}", "dataset_id"),
        ("metadata=nothing", "metadata"),
        ("metadata=a%3Db&metadata=%3Dx", "metadata"),
        ("created_after=9999-12-31T23:59:59-14:00", "created_after"),
        ("created_after=1764158400", "created_after"),
        ("created_before=-6758.5", "created_before"),
        ("created_before=-3.3580621403257678e-102", "created_before"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "created_before"),
        ("created_after=0", "created_after"),
        *((f"limit={text}", "limit") for text in ("1_0", "5.0", "", "0x5", "%205", "%EF%BC%91", "-1", "1e2")),
        (f"after={encode_cursor(f'ds_{ULID}')}", "after"),
        (f"after={encode_cursor(5)}", "after"),
        ("x" * 3000 + "=1", "x" * 100),
    ],
)
def test_a_filter_that_means_nothing_is_refused_and_not_left_out(
    shared_service: InProcessService, query: str, named: str
) -> None:
    answer = shared_service.http.get(f"/v1/jobs?{query}")
    assert told(answer) == (422, "validation-error", named)
    assert answer.json()["errors"][0]["in"] == "query"
    assert answer.json()["detail"].startswith(named)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/evaluations?job_id=x", "job_id"),
        ("/v1/events?type=job.suceeded", "type"),
        ("/v1/events?dataset_id=x", "dataset_id"),
        (f"/v1/datasets?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/gradient-sets?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/evaluations?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/webhook-endpoints?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/datasets/uploads?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/api-keys?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/events?after={encode_cursor(f'job_{ULID}')}", "after"),
        (f"/v1/jobs/job_{ULID}?wiat=20", "wiat"),
        (f"/v1/jobs/job_{ULID}/files/selected.jsonl?K=3", "K"),
    ],
)
def test_so_is_one_of_every_other_list(shared_service: InProcessService, path: str, named: str) -> None:
    assert told(shared_service.http.get(path)) == (422, "validation-error", named)


def test_a_call_that_changes_something_takes_no_parameter_it_does_not_know(shared_service: InProcessService) -> None:
    http = shared_service.http
    for method, path in (
        ("DELETE", f"/v1/jobs/job_{ULID}?force=true"),
        ("POST", f"/v1/jobs/job_{ULID}/cancel?now=1"),
        ("PATCH", f"/v1/jobs/job_{ULID}?name=x"),
        ("POST", "/v1/datasets?nmae=x"),
        ("PUT", f"/v1/datasets/uploads/up_{ULID}/parts/1?sha256=x"),
    ):
        name = re.split(r"[?=]", path)[1]
        assert told(http.request(method, path)) == (422, "validation-error", name), path


def test_repeatable_parameters_may_be_repeated(shared_service: InProcessService) -> None:
    for query in (
        "metadata=a%3Db&metadata=c%3Dd",
        "created_after=0001-01-01T00:00:00Z",
        "created_after=2026-11-01T08:00:00+01:00",  # curl does not escape the plus
    ):
        assert shared_service.http.get(f"/v1/jobs?{query}").status_code == 200
    assert shared_service.http.get("/v1/events?type=job.queued&type=job.failed").json()["data"] == []


def test_every_type_of_event_is_documented_and_can_be_asked_for() -> None:
    flat = {name for group in get_args(EventType) for name in (get_args(group) or (group,))}
    rows = re.search(r"\| type \| data \|\n\|---\|---\|\n((?:\|.*\n)+)", (ROOT / "docs/api.md").read_text())
    assert rows
    first = [line.split("|")[1] for line in rows[1].splitlines()]
    assert flat == set(re.findall(r"`([a-z_]+\.[a-z_]+)`", " ".join(first)))
    written = {
        name
        for folder in ("app", "workers")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"append\(\s*[^,()]+,\s*\"([a-z_]+\.[a-z_]+)\"", path.read_text())
    }
    assert len(written) > 8
    assert written <= flat


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"selection": {"scope": {"kind": "windows", "size": 0}}}, "#/selection/scope/size"),
        ({"selection": {"scope": {"kind": "partitioned", "parts": 2, "size": 3}}}, "#/selection/scope/size"),
        ({"selection": {"scope": {"kind": "windows", "windows": 1, "size": 5}}}, "#/selection/scope/windows"),
        ({"selection": {"scope": {"kind": "slices"}}}, "#/selection/scope"),
        ({"schedule": {"kind": "periodic", "steps_every": 0}}, "#/schedule/steps_every"),
        ({"metadata": {"": "x"}}, "#/metadata/"),
        ({"metadata": {"a/b~c\u2028": "x"}}, "#/metadata/a~1b~0c\u2028"),
        ({"metadata": {"x" * 65: "x"}}, "#/metadata/" + "x" * 65),
        ({"parent": {"run_id": "x", "job": {"namespace": "a", "name": "b"}}}, "#/parent/run_id"),
        (
            {"parent": {"run_id": "019a7f0e-2a55-7000-8000-0123456789ab", "job": {"name": "b"}}},
            "#/parent/job/namespace",
        ),
        ({"must_include": [1, "2"]}, "#/must_include/1"),
        ({"budget": {"count": 2, "share": 1}}, "#/budget/share"),
    ],
)
def test_a_pointer_leads_to_a_place_in_the_body(
    shared_service: InProcessService, dataset_id: str, change: dict[str, Any], pointer: str
) -> None:
    body = {"dataset_id": dataset_id, "budget": {"count": 2}, **change}
    for path in ("/v1/jobs", "/v1/estimates"):
        answer = shared_service.http.post(path, json=body)
        assert told(answer)[:2] == (422, "validation-error")
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_a_pointer_leads_past_the_kind_of_a_source(shared_service: InProcessService) -> None:
    for source, pointer in (({"type": "https"}, "url"), ({"type": "hf", "repo": "a/b", "file": "c"}, "file")):
        answer = shared_service.http.post("/v1/datasets", json={"source": source})
        assert told(answer) == (422, "validation-error", f"#/source/{pointer}")


def test_an_answer_is_short_however_long_the_request_was(shared_service: InProcessService, dataset_id: str) -> None:
    group = "g" * 100_000
    body = {"dataset_id": dataset_id, "budget": {"count": 2}}
    for name, floors in (("output", {group: 1}), ("output", {"a" * 400: 1, "b" * 700: 1})):
        quotas = {"column": name, "floors": floors}
        answer = shared_service.http.post("/v1/jobs", json={**body, "selection": {"quotas": quotas}})
        assert answer.status_code == 422
        assert len(answer.content) < 2 * (MOST_DETAIL + MOST_POINTER) + 1000
        assert len(answer.json()["detail"]) <= MOST_DETAIL + 1
        assert all(error["pointer"].startswith("#/selection/quotas") for error in answer.json()["errors"])


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_a_body_that_is_as_it_is_may_say_so(shared_service: InProcessService, dataset_id: str, encoding: str) -> None:
    body = {"dataset_id": dataset_id, "budget": {"count": 2}}
    answer = shared_service.http.post("/v1/estimates", json=body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 200, answer.text


def test_two_keys_for_one_call_are_none(shared_service: InProcessService, dataset_id: str) -> None:
    body = json.dumps({"dataset_id": dataset_id, "budget": {"count": 2}}).encode()
    kind = ("Content-Type", "application/json")
    twice = [kind, ("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    answer = shared_service.http.post("/v1/jobs", content=body, headers=twice)
    assert told(answer) == (400, "idempotency-key-invalid", None)


PARTS: list[tuple[list[tuple[str, str]], str]] = [
    ([("metadata", '{"a": "1", "a": "2"}')], "#/metadata"),
    ([("metadata", '{"a": NaN}')], "#/metadata"),
    ([("metadata", '{"a": "\\ud800"}')], "#/metadata"),
    ([("metadata", "[" * 5000)], "#/metadata"),
    ([("metadata", '{"": "x"}')], "#/metadata/"),
    ([("metadata", '{"a": 1}')], "#/metadata/a"),
    ([("columns", '{"prompt": "q", "prompt": "p"}')], "#/columns"),
    ([("columns", '{"question": "q"}')], "#/columns/question"),
    ([("columns", '{"prompt": 1}')], "#/columns/prompt"),
    ([("format", "xml")], "#/format"),
    ([("name", "a"), ("name", "b")], "#/name"),
    ([("a~/b", "x")], "#/a~0~1b"),
    ([("file", "x")], "#/file"),
]


@pytest.mark.parametrize(("parts", "pointer"), PARTS)
def test_what_comes_beside_a_file_is_read_as_strictly(
    shared_service: InProcessService, parts: list[tuple[str, str]], pointer: str
) -> None:
    file = ("file", ("a.jsonl", jsonl(sums(2)), "application/jsonl"))
    sent: Any = [file, *((name, (None, value)) for name, value in parts)]
    answer = shared_service.http.post("/v1/datasets", files=sent)
    assert told(answer) == (422, "validation-error", pointer), answer.text


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("name=%00", "name"),
        ("format=xml", "format"),
        ("columns=x", "columns"),
        ('columns={"prompt":"a","prompt":"b"}', "columns"),
    ],
)
def test_what_stands_in_the_address_is_a_parameter(shared_service: InProcessService, query: str, named: str) -> None:
    answer = shared_service.http.post(
        f"/v1/datasets?{query}", content=jsonl(sums(2)), headers={"content-type": "application/jsonl"}
    )
    assert told(answer) == (422, "validation-error", named)


def test_a_repeated_call_whose_outcome_was_deleted_says_so(shared_service: InProcessService, dataset_id: str) -> None:
    http, rows = shared_service.http, jsonl(sums(8))

    def push() -> httpx.Response:
        headers = {"Idempotency-Key": "once", "Content-Type": "application/jsonl"}
        return http.post("/v1/datasets", content=rows, headers=headers)

    body = {"dataset_id": dataset_id, "budget": {"count": 2}}

    def submit() -> httpx.Response:
        return http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "once"})

    def begin() -> httpx.Response:
        about = {"bytes": 5, "sha256": "0" * 64}
        return http.post("/v1/datasets/uploads", json=about, headers={"Idempotency-Key": "once"})

    for call, path in ((submit, "/v1/jobs"), (push, "/v1/datasets"), (begin, "/v1/datasets/uploads")):
        made = call().json()["id"]
        http.post(f"{path}/{made}/cancel")  # only jobs have to have ended, and only they know it
        assert http.delete(f"{path}/{made}").status_code == 204
        again = call()
        assert told(again)[:2] == (404, "not-found"), path
        assert "it was made with this Idempotency-Key and deleted" in again.json()["detail"]
