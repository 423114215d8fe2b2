"""What holds for every route of the contract, walked one by one: wrong method, type, size, body and id are problems."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.pattern_messages import in_words
from tests.fixtures.service import InProcessService

ULID = "01K9RZ3V5X8N3Q2J6T4W7Y0ABC"
UNKNOWN = {
    "dataset_id": f"ds_{ULID}", "upload_id": f"up_{ULID}", "job_id": f"job_{ULID}", "evaluation_id": f"ev_{ULID}",
    "gradient_set_id": f"gs_{ULID}", "endpoint_id": f"whe_{ULID}", "delivery_id": f"whd_{ULID}",
    "key_id": f"key_{ULID}", "schedule_id": f"sch_{ULID}", "name": "selected.parquet", "number": "1", "row": "0",
    "slug": "nothing-of-ours", "token": "a.b",
}  # fmt: skip
METHODS = ("get", "post", "put", "patch", "delete")
MOST_BYTES = 3000
PATCHES = "application/merge-patch+json, application/json"


@pytest.fixture(scope="module")
def walked(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessService]:
    folder = tmp_path_factory.mktemp("walk")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data", max_body_bytes=MOST_BYTES) as running:
        yield running


def routes(service: InProcessService) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of the contract."""
    for path, operations in service.app.openapi()["paths"].items():
        for method in METHODS:
            if method in operations:
                yield method, path, operations[method]


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    """Whether an answer is this problem, with everything that belongs to one."""
    if (answer.status_code, answer.headers["content-type"]) != (status, "application/problem+json"):
        return False
    problem = answer.json()
    whole = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable"} <= problem.keys()
    same = (problem["code"], problem["status"]) == (code, status)
    return whole and same and problem["request_id"] == answer.headers["X-Request-Id"]


def test_a_method_that_a_path_does_not_have_is_405_and_says_which_it_has(walked: InProcessService) -> None:
    types = set()
    for path, operations in walked.app.openapi()["paths"].items():
        there = {method.upper() for method in METHODS if method in operations}
        for method in METHODS:
            if method in operations or _is_matched(walked, method, path):
                continue
            answer = walked.http.request(method, path.format(**UNKNOWN))
            assert is_problem(answer, 405, "method-not-allowed"), f"{method} {path}: {answer.text}"
            allowed = set(re.split(r",\s*", answer.headers["Allow"]))
            assert there <= allowed, f"{method} {path}: {allowed}"
            types.add(answer.json()["type"])
    (type_,) = types
    assert walked.http.get(type_).status_code == 200


def test_a_405_names_no_method_of_a_neighbour(walked: InProcessService) -> None:
    answer = walked.http.put("/v1/datasets/uploads")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST"), "it is no id of a data set"


def _is_matched(service: InProcessService, method: str, path: str) -> bool:
    """Whether another route answers this address as well, and says that ``uploads`` is no id of a data set."""
    return any(
        method == other and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for other, template, _ in routes(service)
    )


def test_a_body_of_the_wrong_type_size_or_form_is_a_problem(walked: InProcessService) -> None:
    tried = 0
    for method, path, operation in routes(walked):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content or "multipart/form-data" in content:
            continue
        url, json = path.format(**UNKNOWN), {"content-type": "application/json"}
        for headers in ({"content-type": "text/plain"}, {**json, "content-encoding": "gzip"}):
            answer = walked.http.request(method, url, content=b"{}", headers=headers)
            assert is_problem(answer, 415, "unsupported-media-type"), f"{method} {path}: {answer.text}"
        plain = walked.http.request(method, url, content=b"{}", headers={"content-type": "text/plain"})
        assert plain.headers.get("Accept-Patch") == (PATCHES if method == "patch" else None)
        merge = walked.http.request(method, url, content=b"{}", headers={"content-type": PATCHES.partition(",")[0]})
        assert (merge.status_code == 415) is (method != "patch"), f"{method} {path}: {merge.text}"
        answer = walked.http.request(method, url, content=b'"' + b"x" * MOST_BYTES + b'"', headers=json)
        assert is_problem(answer, 413, "payload-too-large"), f"{method} {path}: {answer.text}"
        answer = walked.http.request(method, url, content=b"{", headers=json)
        assert is_problem(answer, 400, "malformed-request"), f"{method} {path}: {answer.text}"
        answer = walked.http.request(method, url, content=b'{"no_such_field": 1}', headers=json)
        assert is_problem(answer, 422, "validation-error"), f"{method} {path}: {answer.text}"
        assert any(error["pointer"] == "#/no_such_field" for error in answer.json()["errors"]), f"{method} {path}"
        tried += 1
    assert tried > 8


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list) else ():
        yield from _patterns(inner)


def test_what_a_value_of_a_fixed_form_looks_like_is_told_in_words(walked: InProcessService) -> None:
    patterns = set(_patterns(walked.app.openapi()))
    assert len(patterns) > 12
    for pattern in patterns:
        words = in_words(pattern)
        assert words, f"app/api/pattern_messages.py has no words for {pattern}"
        assert pattern not in words
    refused = walked.http.get("/v1/jobs/ds_1").json()
    assert refused["errors"][0]["detail"] == (
        "job_id: ids of jobs begin with job_ and go on with 26 digits and capital letters"
    )
    unkeyed = walked.http.get("/v1/jobs", params={"metadata": "team"}).json()["errors"][0]["detail"]
    assert unkeyed.startswith("metadata: write KEY=VALUE")


def test_options_names_how_a_change_may_be_sent(walked: InProcessService) -> None:
    tried = 0
    for path, operations in walked.app.openapi()["paths"].items():
        answer = walked.http.options(path.format(**UNKNOWN))
        assert answer.headers.get("Accept-Patch") == (PATCHES if "patch" in operations else None), path
        tried += "patch" in operations
    assert tried == 3


def _body(service: InProcessService, operation: dict[str, Any]) -> Any:
    """An example of a JSON body; None where there is none."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    schema = service.app.openapi()["components"]["schemas"].get(name, {})
    examples = [example["value"] for example in content.get("examples", {}).values()]
    return next(iter([*examples, *schema.get("examples", [])]), content.get("example"))


def test_an_id_that_nothing_has_is_404_and_one_that_nothing_can_have_is_422(walked: InProcessService) -> None:
    tried = 0
    for method, path, operation in routes(walked):
        named = re.findall(r"\{(\w+_id)\}", path)
        if not named:
            continue
        body = _body(walked, operation)
        given = {} if body is None else {"json": body}
        if "requestBody" in operation and body is None:
            given = {"content": b"x", "headers": {"content-type": "application/octet-stream"}}
        answer = walked.http.request(method, path.format(**UNKNOWN), **given)
        assert is_problem(answer, 404, "not-found"), f"{method} {path}: {answer.status_code} {answer.text}"
        for name in named:
            url = path.format(**{**UNKNOWN, name: "nonsense"})
            answer = walked.http.request(method, url, **given)
            assert is_problem(answer, 422, "validation-error"), f"{method} {path}: {answer.status_code} {answer.text}"
        tried += 1
    assert tried > 20


def test_every_list_is_cut_into_pages_that_link_to_the_next(walked: InProcessService) -> None:
    lists = [path for method, path, operation in routes(walked) if method == "get" and _is_list(operation)]
    assert {"/v1/jobs", "/v1/datasets", "/v1/gradient-sets", "/v1/events", "/v1/api-keys"} <= set(lists)
    for name in ("one", "two", "three"):
        body = {"name": name}
        assert walked.http.post("/v1/api-keys", json=body).status_code == 201
    for path in lists:
        if "{" in path:
            continue
        first = walked.http.get(path, params={"limit": 1})
        assert first.status_code == 200, path
        page = first.json()
        assert page.keys() >= {"data", "has_more", "next_cursor"}, path
        assert page["has_more"] == (page["next_cursor"] is not None) == ("Link" in first.headers), path
        for bad in ({"limit": 0}, {"limit": 100_000}, {"after": "%%"}):
            assert is_problem(walked.http.get(path, params=bad), 422, "validation-error"), f"{path} {bad}"
    seen, url = [], "/v1/api-keys?limit=1"
    while url:
        answer = walked.http.get(url)
        seen += [entry["id"] for entry in answer.json()["data"]]
        found = re.findall(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
        url = found[0] if found else ""
    assert len(seen) == len(set(seen)) == 3


def _is_list(operation: dict[str, Any]) -> bool:
    return {"limit", "after"} <= {parameter.get("name") for parameter in operation.get("parameters", [])}
