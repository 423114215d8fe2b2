"""The client against a server that drops, delays, refuses and lies: nothing is made twice, nothing wrong is kept."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from spice_select.client import AsyncClient, Client, Job
from spice_select.client.retry import PATIENT_RETRIES, retry_after
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.errors import ClientError, ConfigError, ConnectionFailedError, WaitTimeoutError
from tests.fixtures.flaky import Answer, Drop, FlakyServer
from tests.fixtures.servers import free_port

SUBMIT = "POST /v1/jobs"
UNAVAILABLE = Answer(503, {"Retry-After": "0"})


@pytest.mark.parametrize("failures", [[Drop()], [UNAVAILABLE], [Drop(), UNAVAILABLE, Drop(4), Answer(502)]])
def test_a_repeated_submit_makes_one_job(server: FlakyServer, client: Client, failures: list[Any]) -> None:
    server.fail(SUBMIT, *failures)
    job = client.jobs.submit("ds_1", "10%", seed=3, gradients=GradientConfig(loss="sum"), proxy="org/name")
    assert list(server.jobs.values()) == [{"id": job.id, "status": "queued"}]
    bodies = {seen.body for seen in server.asked(SUBMIT)}
    assert len(server.asked(SUBMIT)) == len(failures) + 1
    assert [json.loads(body) for body in bodies] == [
        {
            "dataset_id": "ds_1",
            "budget": {"fraction": 0.1},
            "seed": 3,
            "gradients": {"loss": "sum"},
            "proxy": {"model": "org/name"},
        }
    ]


def test_two_submits_make_two_jobs_and_one_key_makes_one(server: FlakyServer, client: Client) -> None:
    client.jobs.submit("ds_1", 5)
    client.jobs.submit("ds_1", 5)
    assert len(server.jobs) == 2
    assert (
        client.jobs.submit("ds_1", 5, idempotency_key="mine").id
        == client.jobs.submit("ds_1", 5, idempotency_key="mine").id
    )
    assert len(server.jobs) == 3


@pytest.mark.parametrize("failures", [[], [Drop()], [UNAVAILABLE, Drop()]])
def test_a_file_is_sent_whole_at_every_attempt(
    server: FlakyServer, client: Client, tmp_path: Path, content: bytes, failures: list[Any]
) -> None:
    path = tmp_path / "pool ü.jsonl"
    path.write_bytes(content)
    server.fail("POST /v1/datasets", *failures)
    dataset = client.datasets.push(path, columns={"prompt": "q", "response": "a"}, metadata={"team": "x"})
    assert dataset.id == "ds_1"
    asked = server.asked("POST /v1/datasets")
    assert len(asked) == len(failures) + 1
    assert len({seen.headers["idempotency-key"] for seen in asked}) == 1
    for seen in asked:
        assert content in seen.body
        assert 'name="name"\r\n\r\npool ü.jsonl\r\n'.encode() in seen.body
        assert b'name="columns"\r\n\r\n{"prompt": "q", "response": "a"}\r\n' in seen.body
    assert client.datasets.push(b"{}\n", name="bytes").id


def test_pauses_grow_and_never_undercut_retry_after(server: FlakyServer) -> None:
    with Client(server.url, retries=3) as client:
        server.fail("GET /v1/jobs/job_1", Answer(429, {"Retry-After": "1"}), Answer(503), Drop())
        began = time.monotonic()
        client.jobs.get("job_1")
        assert time.monotonic() - began >= 1 + 0.25 + 0.5  # half of each pause is fixed


def test_a_service_that_wants_a_long_pause_is_not_waited_for(server: FlakyServer, client: Client) -> None:
    server.fail("GET /v1/jobs/job_1", Answer(503, {"Retry-After": "3600"}))
    with pytest.raises(ClientError) as caught:
        client.jobs.get("job_1")
    assert (caught.value.status, caught.value.retryable) == (503, True)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500])
def test_what_will_not_pass_is_not_repeated(server: FlakyServer, client: Client, status: int) -> None:
    problem = {
        "type": "http://x/problems/budget-exceeds-pool", "title": "Budget exceeds the pool", "status": status,
        "detail": "count is 700", "code": "budget-exceeds-pool", "request_id": "req_9", "retryable": False,
        "errors": [{"detail": "count is 700", "pointer": "#/budget/count", "new": 1}], "later": {},
    }  # fmt: skip
    server.fail(SUBMIT, Answer(status, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()))
    with pytest.raises(ClientError) as caught:
        client.jobs.submit("ds_1", 700)
    error = caught.value
    assert (error.code, error.status, error.request_id) == ("budget-exceeds-pool", status, "req_9")
    assert error.errors[0]["pointer"] == "#/budget/count"
    assert len(server.asked(SUBMIT)) == 1


@pytest.mark.parametrize(
    "body", [b"<html>Bad gateway</html>", b"[1]", b"", b'{"detail": "Not Found"}', b'{"errors": 3}']
)
def test_an_answer_that_is_no_problem_is_quoted(server: FlakyServer, body: bytes) -> None:
    server.fail("GET /v1/jobs/job_1", Answer(502, {}, body), Answer(502, {}, body))
    with Client(server.url, retries=1) as client, pytest.raises(ClientError) as caught:
        client.jobs.get("job_1")
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("not-a-problem", 502, "req_2")
    assert server.url in caught.value.detail


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"id": 5}', b"[]"])
def test_an_answer_of_something_else_is_an_error_of_ours(server: FlakyServer, client: Client, body: bytes) -> None:
    server.fail("GET /v1/jobs/job_1", Answer(200, {}, body))
    with pytest.raises(ClientError) as caught:
        client.jobs.get("job_1")
    assert caught.value.code == "unexpected-answer"


def test_fields_of_a_newer_service_are_kept(server: FlakyServer, client: Client) -> None:
    server.states[0] = {
        "id": "job_1", "status": "running", "phase": "dreaming", "novel": {"a": [1]},
        "result": {"selected": 1, "pool": 2, "novel": 3}, "progress": {"completed": 1, "total": 2, "novel": 4},
    }  # fmt: skip
    job = client.jobs.get("job_1")
    assert job.result is not None
    assert job.model_dump()["novel"] == {"a": [1]}
    assert job.result.model_dump()["novel"] == 3


def test_no_answer_names_the_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=1) as client, pytest.raises(ConnectionFailedError) as caught:
        client.jobs.get("job_1")
    assert url in caught.value.detail
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "https://[::1", "not a url"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ClientError) as caught:
        Client(url)
    assert caught.value.code == "invalid-url"


def test_address_and_key_come_from_the_environment(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICE_API_URL", server.url + "/")
    monkeypatch.setenv("SPICE_API_KEY", "spk_secret")
    # A proxy that cannot be reached must not matter on this machine.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Client() as client:
        client.jobs.get("job_1")
    assert server.seen[-1].headers["authorization"] == "Bearer spk_secret"


def states(*pairs: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [{"id": "job_1", "status": status, "phase": phase} for status, phase in pairs]


def test_waiting_tells_every_step_and_uses_the_long_poll(server: FlakyServer, client: Client) -> None:
    server.states.clear()
    server.states.extend(
        states(("queued", "waiting_for_worker"), ("running", "computing_gradients"), ("running", "selecting"))
        + states(("succeeded", None))
    )
    told: list[tuple[str, str | None]] = []
    job = client.jobs.wait("job_1", on_progress=lambda job: told.append((job.status, job.phase)))
    assert job.status == "succeeded"
    assert told == [
        ("queued", "waiting_for_worker"), ("running", "computing_gradients"), ("running", "selecting"),
        ("succeeded", None),
    ]  # fmt: skip
    waits = [seen.query.get("wait") for seen in server.asked("GET /v1/jobs/job_1")]
    assert waits == [None, ["1"], ["1"], ["1"]]


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_waiting_returns_however_the_job_ended(server: FlakyServer, client: Client, status: str) -> None:
    server.states[0] = {"id": "job_1", "status": status, "error": {"code": "out-of-memory", "detail": "too little"}}
    job = client.jobs.wait("job_1")
    assert job.status == status
    assert job.error is not None
    assert job.error.code == "out-of-memory"


def test_waiting_ends_in_time_and_says_that_the_job_goes_on(server: FlakyServer, client: Client) -> None:
    server.states[0] = {"id": "job_1", "status": "running", "phase": "selecting"}
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError) as caught:
        client.jobs.wait("job_1", max_wait=0.6)
    assert 0.6 <= time.monotonic() - began < 30
    assert caught.value.code == "wait-timeout"
    assert "job_1 is still running" in caught.value.detail
    # A service that answers at once although asked to wait is not asked again and again without a pause.
    assert len(server.asked("GET /v1/jobs/job_1")) <= 9


def test_waiting_outlasts_a_restart_of_the_service(server: FlakyServer, client: Client) -> None:
    server.states.clear()
    server.states.extend(states(("running", "selecting"), ("succeeded", None)))
    route, failures = "GET /v1/jobs/job_1", PATIENT_RETRIES - 3

    def restart(job: Job) -> None:
        if job.status == "running":
            server.fail(route, *[Drop()] * failures)

    assert client.jobs.wait("job_1", on_progress=restart).status == "succeeded"
    assert len(server.asked(route)) == failures + 2


def test_lists_are_followed_to_their_end(server: FlakyServer, client: Client) -> None:
    server.lists["/v1/jobs"] = [{"id": f"job_{i}", "status": "queued"} for i in range(5)]
    assert [job.id for job in client.jobs.list(status="queued")] == [f"job_{i}" for i in range(5)]
    queries = [seen.query for seen in server.asked("GET /v1/jobs")]
    assert [query.get("after") for query in queries] == [None, ["2"], ["4"]]
    assert all(query["status"] == ["queued"] and "dataset_id" not in query for query in queries)
    server.lists["/v1/jobs"] = server.lists["/v1/datasets"] = []
    since = datetime(2026, 11, 1, tzinfo=UTC)
    pairs = {"team": "a", "run": "7"}
    assert list(client.jobs.list(metadata=pairs, created_after=since, created_before="2026-12-01T00:00:00Z")) == []
    assert list(client.datasets.list(status="ready", metadata={"team": "a"})) == []
    told = server.asked("GET /v1/jobs")[-1].query
    assert told["metadata"] == ["team=a", "run=7"]
    assert (told["created_after"], told["created_before"]) == (["2026-11-01T00:00:00+00:00"], ["2026-12-01T00:00:00Z"])
    assert server.asked("GET /v1/datasets")[-1].query == {"status": ["ready"], "metadata": ["team=a"]}
    with pytest.raises(ConfigError, match="zone"):
        client.jobs.list(created_after=datetime(2026, 11, 1))
    row = {
        "source_row": 1, "row_sha256": "x", "gain": 1.0, "base_gain": 1.0, "epsilon": 0.0, "conflict": 0.0,
        "score": 1.0, "tokens": 3,
    }  # fmt: skip
    server.lists["/v1/jobs/job_1/selection"] = [{"rank": i, **row} for i in range(1, 4)]
    assert [pick.rank for pick in client.jobs.selection("job_1")] == [1, 2, 3]
    server.lists["/v1/jobs"] = []
    assert list(client.jobs.list()) == []


def test_the_whole_way_raises_what_the_job_failed_of(server: FlakyServer, client: Client) -> None:
    problem = {"code": "worker-killed", "detail": "three workers died", "request_id": "req_5"}
    server.states.clear()
    server.states.extend([{"id": "ds_1", "status": "ready"}, {"id": "job_1", "status": "failed", "error": problem}])
    with pytest.raises(ClientError, match="job job_1 failed: three workers died") as caught:
        client.select(b"{}\n", 5)
    assert caught.value.code == "worker-killed"


def test_the_asynchronous_client_goes_the_same_way(
    server: FlakyServer, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spice_select.client.retry.FIRST_BACKOFF_SECONDS", 0.01)
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b'{"text": "x"}\n')
    server.fail(SUBMIT, Drop(), UNAVAILABLE)
    server.files["big.bin"] = content
    server.fail("GET /v1/jobs/job_1/files/big.bin", Drop(1000), Drop(1000))
    server.states.clear()
    server.states.extend([{"id": "ds_1", "status": "validating"}, {"id": "ds_1", "status": "ready"}])
    server.states.extend(states(("running", "selecting"), ("succeeded", None)))
    server.lists["/v1/datasets"] = [{"id": f"ds_{i}", "status": "ready"} for i in range(3)]

    async def go() -> tuple[Any, list[str]]:
        async with AsyncClient(server.url) as client:
            chosen = await client.select(path, "5", tmp_path / "out", on_progress=lambda _: None)
            return chosen, [dataset.id async for dataset in client.datasets.list()]

    chosen, listed = asyncio.run(go())
    assert chosen.files["big.bin"].read_bytes() == content
    assert len(server.jobs) == 1
    assert listed == ["ds_0", "ds_1", "ds_2"]


def test_both_clients_offer_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        members = {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
        return {name: list(inspect.signature(call).parameters) for name, call in members.items()}

    assert calls(Client) == calls(AsyncClient)
    with Client() as blocking:
        awaited = AsyncClient()
        for resource in ("datasets", "jobs", "evaluations", "webhook_endpoints"):
            offered = calls(type(getattr(blocking, resource)))
            assert offered == calls(type(getattr(awaited, resource)))
            assert "list" in offered


def test_a_field_that_a_job_does_not_have_is_refused(client: Client) -> None:
    with pytest.raises(ConfigError, match="alpha") as caught:
        client.jobs.submit("ds_1", 5, alpha=1.0)
    assert caught.value.errors[0]["pointer"] == "#/alpha"
    client.jobs.submit("ds_1", 5, proxy=ProxyConfig(model="org/name"))


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    def read(value: str) -> float | None:
        return retry_after(httpx.Headers({"Retry-After": value}))

    assert read("7") == 7
    assert read(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)) == pytest.approx(30, abs=2)
    assert read(format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)) == 0
    assert read("soon") is None
    assert retry_after(httpx.Headers()) is None
