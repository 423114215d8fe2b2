"""Every error is a problem, whatever caused it."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import PROBLEMS
from spice_select import errors as library_errors
from tests.fixtures.service import InProcessService

NO_JOB = "job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC"


def raw(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": {"content-type": "application/json"}}


@pytest.mark.parametrize(
    ("method", "url", "kwargs", "status", "code"),
    [
        ("GET", "/", {}, 404, "not-found"),
        ("GET", f"/v1/jobs/{NO_JOB}", {}, 404, "not-found"),
        ("GET", "/v1/jobs/job_none", {}, 422, "validation-error"),
        ("GET", "/v1/jobs/%00", {}, 422, "validation-error"),
        ("GET", "/v1/jobs/%ff", {}, 422, "validation-error"),
        ("GET", "/v1/jobs/" + "x" * 5000, {}, 422, "validation-error"),
        ("GET", "/v1/datasets/..%2f..%2fetc%2fpasswd", {}, 404, "not-found"),
        ("GET", "/v1/gradient-sets/gs_01K9RZ3V5X8N3Q2J6T4W7Y0ABC", {}, 404, "not-found"),
        ("GET", f"/v1/jobs/{NO_JOB}/files/x", {}, 404, "not-found"),
        ("POST", f"/v1/jobs/{NO_JOB}/cancel", {}, 404, "not-found"),
        ("GET", "/problems/none", {}, 404, "not-found"),
        ("PUT", "/v1/jobs", {}, 405, "method-not-allowed"),
        ("DELETE", "/v1/version", {}, 405, "method-not-allowed"),
        ("POST", "/v1/jobs", raw(b"{"), 400, "malformed-request"),
        ("POST", "/v1/jobs", raw(b"[]"), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b""), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b"\xff\xfe"), 400, "malformed-request"),
        ("POST", "/v1/jobs", raw('{"dataset_id": "ä"}'.encode("utf-16")), 400, "malformed-request"),
        ("POST", "/v1/jobs", raw(b'{"budget": {"fraction": NaN}}'), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b'{"budget": {"fraction": Infinity}}'), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b'{"budget": {"fraction": 1e999}}'), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b'{"dataset_id": "\\ud800"}'), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b'{"budget": {"count": ' + b"1" * 5000 + b"}}"), 400, "malformed-request"),
        ("POST", "/v1/jobs", raw(b'{"budget": {"count": 1' + b"0" * 400 + b"}}"), 422, "validation-error"),
        ("POST", "/v1/jobs", raw(b'{"a": 1, "a": 2}'), 400, "malformed-request"),
        ("POST", "/v1/jobs", raw(b"[" * 100_000), 400, "malformed-request"),
        ("POST", "/v1/jobs", raw(b'{"a": "' + b"x" * 2**20 + b'"}'), 413, "payload-too-large"),
        ("POST", "/v1/jobs", {"content": b"{}"}, 415, "unsupported-media-type"),
        ("GET", "/v1/jobs?limit=-1", {}, 422, "validation-error"),
        ("GET", "/v1/jobs?limit=1000000000", {}, 422, "validation-error"),
        ("GET", "/v1/jobs?after=%00", {}, 422, "validation-error"),
        ("GET", f"/v1/jobs/{NO_JOB}/events?after=eA", {}, 422, "validation-error"),
    ],
)  # fmt: skip
def test_bad_requests_get_problems(
    shared_service: InProcessService, method: str, url: str, kwargs: dict[str, Any], status: int, code: str
) -> None:
    response = shared_service.http.request(method, url, **kwargs)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["X-Request-Id"]
    assert problem["title"]
    assert problem["detail"]
    assert isinstance(problem["retryable"], bool)
    assert shared_service.http.get(problem["type"]).status_code == 200
    if status == 405:
        assert "GET" in response.headers["Allow"]


def test_an_answer_does_not_echo_what_was_sent(service: InProcessService) -> None:
    response = service.http.post("/v1/jobs", json={"dataset_id": ["secret-canary"], "budget": {"count": "canary-2"}})
    assert response.status_code == 422
    assert "canary" not in response.text


def test_a_request_id_is_taken_over_or_made(service: InProcessService) -> None:
    assert service.http.get("/livez", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    made = service.http.get("/livez", headers={"X-Request-Id": "bad id"}).headers["X-Request-Id"]
    assert made.startswith("req_")


def test_every_library_code_is_in_the_catalogue() -> None:
    def tree(base: type) -> set[type]:
        return {base}.union(*(tree(child) for child in base.__subclasses__()))

    # What only a client or a caller of the library can meet never leaves the service.
    apart = {
        "ClientError", "WaitTimeoutError", "ConnectionFailedError", "VerificationError", "Stopped", "RowError",
        "StoreUnreachableError",
    }  # fmt: skip
    codes = {cls.code for cls in tree(library_errors.SpiceError) if cls.__name__ not in apart}
    assert codes <= set(PROBLEMS), codes - set(PROBLEMS)


def test_head_answers_wherever_get_does(service: InProcessService) -> None:
    for path in ("/livez", "/readyz", "/v1/version", "/v1/jobs", "/v1/datasets", "/v1/openapi.json"):
        got, head = service.http.get(path), service.http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-length"] == got.headers["content-length"]


def test_the_contract_describes_errors_as_problems(service: InProcessService) -> None:
    contract = service.http.get("/v1/openapi.json").json()
    assert contract["openapi"].startswith("3.1")
    for path, operations in contract["paths"].items():
        for method, operation in operations.items():
            assert method != "head", path
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"], (path, method)
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    assert response["$ref"].startswith("#/components/responses/"), (path, method, status)


def test_a_broken_database_is_a_503(service: InProcessService) -> None:
    from sqlalchemy import text

    with service.runner.database.write() as session:
        session.execute(text("ALTER TABLE job RENAME TO job_gone"))
    response = service.http.get("/v1/jobs")
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"]
    assert service.http.get("/livez").status_code == 200


def test_readiness_needs_the_migrations(tmp_path: Any) -> None:
    with InProcessService(f"sqlite:///{tmp_path / 'empty.db'}", tmp_path / "data") as service:
        response = service.http.get("/readyz")
        assert (response.status_code, response.json()["code"]) == (503, "not-ready")
        assert "database" in response.json()["errors"][0]["detail"]
