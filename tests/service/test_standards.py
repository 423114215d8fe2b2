"""Conditional requests, repeated calls, rate limits, filters and HEAD: what clients build on, to the letter."""

from __future__ import annotations

import errno
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.rate_limit import REMEMBERED, OwnLimiter
from app.errors import PROBLEMS
from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import IdempotencyKeys
from app.services.access.keys import KeyService
from tests.fixtures.service import InProcessService, jsonl, sums

ULID = "01K9RZ3V5X8N3Q2J6T4W7Y0ABC"


def test_a_change_is_made_only_to_the_state_that_if_match_names(any_service: InProcessService) -> None:
    http = any_service.http
    dataset = any_service.push(jsonl(sums(8)))
    job = any_service.submit(dataset["id"])
    path = f"/v1/jobs/{job['id']}/cancel"
    for tag in ('W/"99-waiting_for_worker"', '"2"', "nonsense"):
        stale = http.post(path, headers={"If-Match": tag})
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition-failed"), tag
    assert any_service.job(job["id"])["status"] == "queued"
    etag = http.get(f"/v1/jobs/{job['id']}").headers["ETag"]
    assert http.post(path, headers={"If-Match": f'"77", {etag}'}).status_code == 202
    path = f"/v1/datasets/{dataset['id']}"
    assert http.delete(path, headers={"If-Match": 'W/"1"'}).status_code == 412
    assert http.delete(path, headers={"If-Match": http.get(path).headers["ETag"]}).status_code == 204
    assert http.post(f"/v1/jobs/{job['id']}/cancel", headers={"If-Match": "*"}).status_code == 409


def test_a_call_whose_key_is_in_use_is_told_so(postgres_service: InProcessService) -> None:
    dataset = postgres_service.push(jsonl(sums(8)))
    database = postgres_service.runner.database
    held, done = threading.Event(), threading.Event()

    def first() -> None:
        with database.write() as session:
            IdempotencyKeys(session).remember(DEFAULT_PROJECT, "POST /v1/jobs", "mine", "0" * 64, "job_none")
            held.set()
            done.wait(30)
            session.rollback()

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(60)
    body = {"dataset_id": dataset["id"], "budget": {"count": 2}, "gradients": {"sketch_dim": 4}}
    try:
        began = time.monotonic()
        answer = postgres_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "mine"})
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
        assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() - began < 25
    finally:
        done.set()
        thread.join()
    assert postgres_service.http.get("/v1/jobs").json()["data"] == []
    assert postgres_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "mine"}).status_code == 202


def test_windows_are_counted_apart_and_begin_anew() -> None:
    now = [100.0]
    limiter = OwnLimiter(2, 10, clock=lambda: now[0])
    first, second, third = (limiter.take("a") for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert [(one.left, one.exceeded) for one in (first, second, third)] == [(1, False), (0, False), (0, True)]
    assert first.headers() == {"RateLimit-Policy": '"default";q=2;w=10', "RateLimit": '"default";r=1;t=10'}
    other = limiter.take("b")
    assert other is not None
    assert not other.exceeded
    now[0] = 109.5
    late = limiter.take("a")
    assert late is not None
    assert (late.reset, late.exceeded) == (1, True)
    now[0] = 110.0
    fresh = limiter.take("a")
    assert fresh is not None
    assert (fresh.left, fresh.exceeded) == (1, False)
    assert OwnLimiter(0, 10).take("a") is None
    for key in range(REMEMBERED + 5):
        limiter.take(str(key))
    now[0] = 200.0
    limiter.take("last")
    assert len(limiter._windows) == 1, "windows that are over are dropped"


@pytest.fixture
def limited(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[InProcessService, list[str]]]:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys", rate_limit_requests=3, rate_limit_seconds=30)
    keys = KeyService(service.runner.database)
    secrets = [keys.create(DEFAULT_PROJECT, name)[1] for name in ("one", "two")]
    with service:
        yield service, secrets


def test_a_key_that_asks_too_often_is_told_when_to_come_back(limited: tuple[InProcessService, list[str]]) -> None:
    service, (one, two) = limited
    answers = [service.http.get("/v1/jobs", headers={"Authorization": f"Bearer {one}"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [re.findall(r";r=(\d)", answer.headers["RateLimit"]) for answer in answers] == [["2"], ["1"], ["0"], ["0"]]
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=30'
    last = answers[-1]
    assert last.json()["code"] == "rate-limited"
    assert last.json()["retryable"]
    assert last.json()["violated-policies"] == ["default"]
    assert int(last.headers["Retry-After"]) >= int(re.findall(r";t=(\d+)", last.headers["RateLimit"])[0])
    assert service.http.get("/v1/jobs", headers={"Authorization": f"Bearer {two}"}).status_code == 200
    assert "RateLimit" not in service.http.get("/livez").headers


def test_a_stranger_hears_nothing_about_the_body(limited: tuple[InProcessService, list[str]]) -> None:
    http = limited[0].http
    for content, media in ((b"{", "application/json"), (b"\xff", "application/json"), (b"x", "text/html"), (b"", "")):
        headers = {"content-type": media} if media else {}
        assert http.post("/v1/jobs", content=content, headers=headers).status_code == 401, media
        assert http.post("/v1/datasets", content=content, headers=headers).status_code == 401, media


def test_lists_are_narrowed_down_by_metadata_and_time(any_service: InProcessService) -> None:
    http = any_service.http
    dataset = any_service.push(jsonl(sums(8)), metadata='{"team": "search", "a.b [c]$": "100%"}')
    tags: list[dict[str, str]] = [{"team": "search"}, {"team": "ads", "run": "a=b"}, {"team": "search", "run": "2"}]
    made = [any_service.submit(dataset["id"], seed=n, metadata=tag) for n, tag in enumerate(tags)]

    def found(path: str = "/v1/jobs", **params: Any) -> list[int]:
        answer = http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        ids = [job["id"] for job in made]
        return sorted(ids.index(entry["id"]) if entry["id"] in ids else -1 for entry in answer.json()["data"])

    assert found(metadata="team=search") == [0, 2]
    assert found(metadata=["team=search", "run=2"]) == [2]
    assert found(metadata="run=a=b") == [1]
    assert found(metadata="run=") == []
    assert found(metadata="none=x") == []
    assert found(created_after=made[1]["created_at"]) == [1, 2]
    assert found(created_before=made[1]["created_at"]) == [0]
    assert found(created_after=made[1]["created_at"], metadata="team=search", status="queued") == [2]
    assert found("/v1/datasets", metadata="a.b [c]$=100%") == [-1]
    assert found("/v1/datasets", metadata="team=ads") == []
    assert found("/v1/datasets", created_before=dataset["created_at"]) == []
    first = http.get("/v1/jobs", params={"metadata": "team=search", "limit": 1})
    assert [entry["id"] for entry in first.json()["data"]] == [made[2]["id"]]
    link = re.findall(r'<([^>]+)>; rel="next"', first.headers["Link"])[0]
    assert [entry["id"] for entry in http.get(link).json()["data"]] == [made[0]["id"]], "the link keeps the filter"
    for bad in ({"metadata": "nothing"}, {"metadata": "=x"}, {"metadata": 'a"b=x'}, {"created_after": "yesterday"},
                {"created_after": "2026-01-01T00:00:00"}):  # fmt: skip
        answer = http.get("/v1/jobs", params=bad)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation-error"), bad


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_every_problem_has_a_page(shared_service: InProcessService, code: str) -> None:
    page = shared_service.http.get(f"/problems/{code}")
    assert page.status_code == 200
    assert f"HTTP {PROBLEMS[code].status}" in page.text


def test_a_fault_of_the_service_is_a_problem_too(service: InProcessService, capfd: Any) -> None:
    service.app.state.services.jobs = None
    answer = service.http.get("/v1/jobs", headers={"X-Request-Id": "mine-7"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "mine-7"
    assert "NoneType" not in answer.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_told_from_other_faults(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_arguments: Any, **_named: Any) -> None:
        raise OSError(number, "said by the disk")

    monkeypatch.setattr(service.app.state.services.datasets, "register", full)
    answer = service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(3)))})
    told = (507, "storage-full", True) if number != errno.EIO else (500, "internal", True)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == told
    assert "said by" not in answer.text
    monkeypatch.undo()
    assert service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(3)))}).status_code == 202


def test_a_failed_job_keeps_a_problem_in_the_form_of_an_answer(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(8)))
    # No sample fits, which nobody can know before the tokens are counted.
    job = service.submit(dataset["id"], gradients={"sketch_dim": 4, "max_length": 8, "overflow": "exclude"})
    service.drain()
    failed = service.job(job["id"])
    assert failed["status"] == "failed"
    problem = failed["error"]
    answer = service.http.get(f"/v1/jobs/job_{ULID}").json()
    assert set(problem) - {"reasons"} == set(answer) - (
        set() if "request_id" in problem else {"request_id", "instance"}
    )
    assert service.http.get(problem["type"]).status_code == 200
    assert problem["status"] == PROBLEMS[problem["code"]].status
    json.dumps(problem)
