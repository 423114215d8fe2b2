"""No project takes up the disk or the queue without bound; whoever reaches one is told what is used and allowed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.services.access.keys import KeyService
from tests.fixtures.service import InProcessService, jsonl, sums

Open = Callable[..., InProcessService]


@pytest.fixture
def limited(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    # What the worker adds is seen at once; the API measures again every half minute.
    monkeypatch.setattr("app.storage.MEASURED_SECONDS", 0.0)
    with ExitStack() as stack:
        yield lambda **bounds: stack.enter_context(InProcessService(sqlite_url, tmp_path / "data", **bounds))


def refused(answer: httpx.Response, status: int, code: str, resource: str, used: int, allowed: int) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (status, code, True), answer.text
    assert problem["quota"] == {"resource": resource, "used": used, "allowed": allowed}


def send(service: InProcessService, start: int = 0, **headers: str) -> httpx.Response:
    return service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(8, start)))}, headers=headers)


def on_disk(service: InProcessService, project: str) -> int:
    folders = (service.settings.data_dir / part / project for part in ("objects", "prefixes"))
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def test_data_sets_are_bounded_until_one_is_deleted(limited: Open) -> None:
    service = limited(quota_datasets=2)
    first, again = send(service, 0, **{"Idempotency-Key": "a"}), send(service, 100)
    assert [first.status_code, again.status_code] == [202, 202]
    refused(send(service, 200), 429, "quota-exceeded", "datasets", 2, 2)
    begun = {"bytes": 10, "sha256": "0" * 64, "part_bytes": 1024}
    refused(service.http.post("/v1/datasets/uploads", json=begun), 429, "quota-exceeded", "datasets", 2, 2)
    repeated = send(service, 0, **{"Idempotency-Key": "a"})
    assert (repeated.status_code, repeated.json()["id"]) == (202, first.json()["id"]), "a repeated call makes nothing"
    assert service.http.delete(f"/v1/datasets/{again.json()['id']}").status_code == 204
    assert send(service, 200).status_code == 202


def test_uploads_that_were_begun_in_time_count_when_they_are_completed(limited: Open) -> None:
    service = limited(quota_datasets=2)
    body = jsonl(sums(8, 300))
    announced = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    upload = service.http.post("/v1/datasets/uploads", json=announced).json()["id"]
    path = f"/v1/datasets/uploads/{upload}"
    octets = {"Content-Type": "application/octet-stream"}
    assert service.http.put(f"{path}/parts/1", content=body, headers=octets).status_code == 200
    first, _ = send(service, 0), send(service, 100)
    refused(service.http.post(f"{path}/complete"), 429, "quota-exceeded", "datasets", 2, 2)
    assert service.http.delete(f"/v1/datasets/{first.json()['id']}").status_code == 204
    assert service.http.post(f"{path}/complete").status_code == 202, "the parts were kept"


def test_waiting_jobs_are_bounded(limited: Open) -> None:
    service = limited(quota_queued=2)
    dataset = service.push(jsonl(sums(8)))
    body: dict[str, Any] = {"dataset_id": dataset["id"], "budget": {"count": 3}}
    body["gradients"] = {"sketch_dim": 4, "max_length": 128}
    for _ in range(2):
        service.submit(dataset["id"])
    answer = service.http.post("/v1/jobs", json=body)
    refused(answer, 429, "quota-exceeded", "queued", 2, 2)
    assert int(answer.headers["Retry-After"]) > 0
    service.drain()
    assert service.http.post("/v1/jobs", json=body).status_code == 202


def test_stored_bytes_are_bounded_by_what_lies_on_the_disk(limited: Open) -> None:
    data = jsonl(sums(8))
    service = limited(quota_bytes=200_000)
    dataset = service.push(data)
    service.submit(dataset["id"])
    service.drain()
    used = service.http.get("/v1/quota").json()["stored_bytes"]
    assert used == {"used": on_disk(service, "proj_default"), "allowed": 200_000}
    assert used["used"] > len(data), "row shards, gradients and results count too"
    big = b"".join(b'{"instruction": "%d", "output": "%s"}\n' % (i, b"x" * 1000) for i in range(190))
    answer = service.http.post("/v1/datasets", files={"file": ("big.jsonl", big)})
    refused(answer, 507, "quota-bytes", "stored_bytes", used["used"], 200_000)
    assert on_disk(service, "proj_default") == used["used"], "nothing of what was refused stays"
    announced = {"bytes": 150_000, "sha256": hashlib.sha256(big).hexdigest(), "part_bytes": 65536}
    assert service.http.post("/v1/datasets/uploads", json=announced).status_code == 201
    answer = service.http.post("/v1/datasets/uploads", json=announced)
    refused(answer, 507, "quota-bytes", "stored_bytes", used["used"] + 150_000, 200_000)


def test_a_full_project_can_neither_add_work_nor_sources_until_it_deletes(limited: Open, tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_bytes(jsonl(sums(8)))
    service = limited(source_roots=[tmp_path])
    dataset = service.push(jsonl(sums(8)))
    service.submit(dataset["id"])
    service.drain()
    used = on_disk(service, "proj_default")
    service.http.close()
    full = limited(source_roots=[tmp_path], quota_bytes=used)
    source = {"source": {"type": "file", "path": "pool.jsonl"}}
    refused(full.http.post("/v1/datasets", json=source), 507, "quota-bytes", "stored_bytes", used, used)
    job = {"dataset_id": dataset["id"], "budget": {"count": 3}}
    refused(full.http.post("/v1/jobs", json=job), 507, "quota-bytes", "stored_bytes", used, used)
    finished = full.http.get("/v1/jobs").json()["data"][0]
    assert full.http.delete(f"/v1/jobs/{finished['id']}").status_code == 204
    assert full.http.post("/v1/jobs", json=job).status_code == 202


def test_what_is_refused_for_the_number_of_data_sets_leaves_no_bytes(limited: Open) -> None:
    service = limited(quota_datasets=1)
    assert send(service, 0).status_code == 202
    before = on_disk(service, "proj_default")
    for start in (100, 200, 300):
        refused(send(service, start), 429, "quota-exceeded", "datasets", 1, 1)
    assert on_disk(service, "proj_default") == before


def test_appended_rows_are_a_data_set_of_their_own_and_count(limited: Open) -> None:
    service = limited(quota_datasets=2)
    first = service.push(jsonl(sums(8)))["id"]
    more = {"file": ("more.jsonl", jsonl(sums(4, 100)))}
    assert service.http.post(f"/v1/datasets/{first}/append", files=more).status_code == 202
    before = on_disk(service, "proj_default")
    refused(service.http.post(f"/v1/datasets/{first}/append", files=more), 429, "quota-exceeded", "datasets", 2, 2)
    assert on_disk(service, "proj_default") == before


def test_targets_of_a_job_are_a_data_set_of_their_own_and_count(limited: Open) -> None:
    service = limited(quota_datasets=2)
    pool = service.push(jsonl(sums(8)))["id"]
    targets = [{"name": "sums", "rows": sums(3, 50)}]
    body = {"dataset_id": pool, "budget": {"count": 3}, "preset": None, "targets": targets}
    key = {"Idempotency-Key": "with targets"}
    first = service.http.post("/v1/jobs", json=body, headers=key)
    assert first.status_code == 202, first.text
    before = on_disk(service, "proj_default")
    other = {**body, "targets": [{"name": "sums", "rows": sums(3, 60)}]}
    refused(service.http.post("/v1/jobs", json=other), 429, "quota-exceeded", "datasets", 2, 2)
    assert on_disk(service, "proj_default") == before
    again = service.http.post("/v1/jobs", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"]), "a repeated call makes nothing"


def test_stored_targets_of_a_job_that_is_refused_go_away_again(limited: Open) -> None:
    service = limited(quota_datasets=9, artifact_grace_seconds=0.0)
    pool = service.push(jsonl(sums(8)))["id"]
    before = on_disk(service, "proj_default")
    targets = [{"name": "sums", "rows": sums(3, 50)}]
    body = {"dataset_id": pool, "budget": {"count": 9000}, "preset": None, "targets": targets}
    assert service.http.post("/v1/jobs", json=body).status_code == 422
    service.app.state.services.datasets.retention.sweep()
    assert on_disk(service, "proj_default") == before


def test_a_source_that_is_larger_than_what_is_left_fails_and_stores_nothing(limited: Open, tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_bytes(jsonl(sums(400)))
    service = limited(source_roots=[tmp_path], quota_bytes=5_000, max_attempts=1)
    source = {"source": {"type": "file", "path": "pool.jsonl"}}
    dataset = service.http.post("/v1/datasets", json=source).json()["id"]
    service.drain()
    shown = service.http.get(f"/v1/datasets/{dataset}").json()
    assert (shown["status"], shown["error"]["code"]) == ("invalid", "quota-bytes")
    assert on_disk(service, "proj_default") == 0


def test_calls_at_the_same_moment_do_not_pass_a_bound_together(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InProcessService(any_database_url, tmp_path / "data", quota_datasets=3, quota_queued=2) as service:
        with ThreadPoolExecutor(8) as pool:
            sent = list(pool.map(lambda number: send(service, 100 * number).status_code, range(8)))
        assert sorted(sent) == [202] * 3 + [429] * 5
        service.drain()
        body = {"dataset_id": service.http.get("/v1/datasets").json()["data"][0]["id"], "budget": {"count": 3}}
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: service.http.post("/v1/jobs", json=body).status_code, range(8)))
        assert sorted(made) == [202] * 2 + [429] * 6


def test_each_project_has_its_own_quota_and_sees_no_other(sqlite_url: str, tmp_path: Path) -> None:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys", quota_datasets=1)
    keys = KeyService(service.runner.database)
    one, other = (
        {"Authorization": f"Bearer {keys.create(keys.create_project(name).id, name)[1]}"} for name in ("one", "other")
    )
    with service:
        assert send(service, 0, **one).status_code == 202
        refused(send(service, 100, **one), 429, "quota-exceeded", "datasets", 1, 1)
        assert service.http.get("/v1/quota", headers=other).json() == {
            "object": "quota",
            "stored_bytes": {"used": 0, "allowed": 2**40},
            "datasets": {"used": 0, "allowed": 1},
            "queued": {"used": 0, "allowed": 10_000},
        }
        assert send(service, 0, **other).status_code == 202


def test_nothing_is_bounded_by_zero(limited: Open) -> None:
    service = limited(quota_bytes=0, quota_datasets=0, quota_queued=0)
    assert send(service).status_code == 202
    allowed = {name: each["allowed"] for name, each in service.http.get("/v1/quota").json().items() if name != "object"}
    assert allowed == {"stored_bytes": None, "datasets": None, "queued": None}
