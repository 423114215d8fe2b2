"""Jobs over HTTP, from the request to the files."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import spice_select as ss
from spice_select.pipeline.run import run
from tests.fixtures.service import InProcessService, jsonl, sums


@pytest.fixture
def ready(any_service: InProcessService) -> dict[str, Any]:
    return any_service.push(jsonl(sums(12)))


def test_a_job_goes_the_whole_way(any_service: InProcessService, ready: dict[str, Any]) -> None:
    response = any_service.http.post(
        "/v1/jobs",
        json={
            "dataset_id": ready["id"],
            "budget": {"fraction": 0.25},
            "gradients": {"sketch_dim": 4},
            "metadata": {"run": "7"},
            "name": "first",
        },
    )
    assert response.status_code == 202
    job = response.json()
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["Retry-After"]
    assert (job["status"], job["phase"]) == ("queued", "waiting_for_worker")
    assert job["config"]["selection"]["information"] == "logdet", "the resolved settings are shown"
    any_service.drain()
    job = any_service.job(job["id"])
    assert job["status"] == "succeeded", job
    assert job["result"]["selected"] == 3
    assert job["result"]["pool"] == 12
    assert job["result"]["stop_reason"] == "budget_reached"
    assert 0 < job["result"]["certificate"]["ratio"] <= 1
    assert set(job["result"]["seconds"]) == {"queued", "gradients", "loading_gradients", "selecting", "writing_files"}
    moments = [datetime.fromisoformat(job[name]) for name in ("created_at", "started_at", "finished_at")]
    assert moments == sorted(moments)
    assert job["error"] is None
    assert job["partial"] is False
    samples = any_service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    assert [sample["rank"] for sample in samples] == [1, 2, 3]
    lines = any_service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").content.splitlines()
    records = sums(12)
    for sample, line in zip(samples, lines, strict=True):
        assert hashlib.sha256(line).hexdigest() == sample["row_sha256"]
        assert json.loads(line) == records[sample["source_row"]]
    events = any_service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert [event["type"] for event in events] == [
        "job.queued",
        "job.running",
        "job.gradients_ready",
        "job.succeeded",
    ]


def test_the_service_chooses_what_the_library_chooses(service: InProcessService, tmp_path: Path) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(sums(12)))
    dataset = service.push(source.read_bytes())
    job = service.submit(dataset["id"], budget={"count": 5}, gradients={"sketch_dim": 16})
    service.drain()
    config = ss.RunConfig(
        gradients=ss.GradientConfig(sketch_dim=16), selection=ss.SelectionConfig(budget=ss.Budget(count=5))
    )
    local = run(source, config, tmp_path / "out")
    assert local is not None
    samples = service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    ours = (tmp_path / "out" / "selected.jsonl").read_bytes()
    assert service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").content == ours
    assert len(samples) == 5


def test_a_second_job_computes_no_gradients(any_service: InProcessService, ready: dict[str, Any]) -> None:
    first = any_service.submit(ready["id"])
    assert any_service.drain() == 2, "one shard, one selection"
    second = any_service.submit(ready["id"], budget={"count": 5}, selection={"conflict_penalty": 0.5})
    assert second["gradients_reused"] is True
    assert second["gradient_set_id"] == first["gradient_set_id"]
    assert any_service.drain() == 1, "the selection alone"
    assert any_service.job(second["id"])["result"]["seconds"]["gradients"] == 0
    other = any_service.submit(ready["id"], gradients={"sketch_dim": 4, "max_length": 128, "loss": "sum"})
    assert other["gradients_reused"] is False
    assert other["gradient_set_id"] != first["gradient_set_id"]


def test_the_same_rows_in_another_file_reuse_the_gradients(service: InProcessService) -> None:
    one = service.push(jsonl(sums(6)))
    two = service.push(json.dumps(sums(6)).encode())
    assert one["digest"] != two["digest"]
    assert one["rows_digest"] == two["rows_digest"]
    service.submit(one["id"])
    service.drain()
    assert service.submit(two["id"])["gradients_reused"] is True


def test_files_have_ranges_digests_and_conditions(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(8)))
    job = service.submit(dataset["id"])
    service.drain()
    files = service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]
    assert [file["name"] for file in files] == [
        "selected.jsonl",
        "selected.parquet",
        "ranking.parquet",
        "trace.parquet",
        "evidence.parquet",
        "dataset_info.json",
        "README.md",
        "croissant.json",
        "provenance.intoto.jsonl",
        "SHA256SUMS",
        "provenance.dsse.json",
    ]
    for file in files:
        url = f"/v1/jobs/{job['id']}/files/{file['name']}"
        whole = service.http.get(url)
        assert hashlib.sha256(whole.content).hexdigest() == file["sha256"]
        assert len(whole.content) == file["bytes"]
        assert whole.headers["ETag"] == f'"{file["sha256"]}"'
        head = service.http.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(file["bytes"])
        part = service.http.get(url, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, whole.content[5:10])
        assert service.http.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert service.http.get(f"/v1/jobs/{job['id']}/files/nothing").status_code == 404
    assert service.http.get(f"/v1/jobs/{job['id']}/files/..%2F..%2Fspice.db").status_code == 404


def test_provenance_names_every_input(service: InProcessService) -> None:
    data = jsonl(sums(8))
    dataset = service.push(data)
    job = service.submit(dataset["id"], seed=3)
    service.drain()
    statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    text = json.dumps(statement)
    assert hashlib.sha256(data).hexdigest() in text
    proxy = service.job(job["id"])["result"]["proxy"]
    assert proxy["weights_sha256"] in text
    assert proxy["tokenizer_sha256"] in text
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == job["id"]
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]}
    selected = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").content
    assert subjects["selected.jsonl"] == hashlib.sha256(selected).hexdigest()


def test_one_key_gives_one_job(any_service: InProcessService, ready: dict[str, Any]) -> None:
    body = {"dataset_id": ready["id"], "budget": {"count": 2}}
    headers = {"Idempotency-Key": "key-1"}
    first = any_service.http.post("/v1/jobs", json=body, headers=headers)
    again = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": '"key-1"'})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    other = any_service.http.post("/v1/jobs", json={**body, "budget": {"count": 3}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    for bad in ("", "x" * 256, "tab\tinside"):
        refused = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": bad})
        assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-invalid"), bad


def test_a_hundred_parallel_posts_with_one_key_make_one_job(
    any_service: InProcessService, ready: dict[str, Any]
) -> None:
    body = {"dataset_id": ready["id"], "budget": {"count": 2}}

    def post(_: int) -> tuple[int, str]:
        response = any_service.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "crowd"})
        return response.status_code, response.json().get("id", response.text)

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(post, range(100)))
    assert len(answers) == 1, answers
    assert next(iter(answers))[0] == 202
    assert len(any_service.http.get("/v1/jobs").json()["data"]) == 1


def test_a_queued_job_is_cancelled_at_once(any_service: InProcessService, ready: dict[str, Any]) -> None:
    job = any_service.submit(ready["id"])
    response = any_service.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()["status"]) == (202, "cancelled")
    assert any_service.drain() == 0, "nobody computes for it"
    again = any_service.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "conflict-state")
    result = any_service.http.get(f"/v1/jobs/{job['id']}/selection")
    assert (result.status_code, result.json()["code"]) == (409, "conflict-state")
    later = any_service.submit(ready["id"])
    any_service.drain()
    assert any_service.job(later["id"])["status"] == "succeeded", "the gradient set is not spoiled"


def test_a_job_cancelled_while_selecting_keeps_its_prefix(
    any_service: InProcessService, ready: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import spice_select.pipeline.select

    job = any_service.submit(ready["id"], budget={"count": 12})
    stopped = threading.Event()
    real = spice_select.pipeline.select.select

    def select_slowly(*args: Any, on_progress: Any, should_stop: Any, **kwargs: Any) -> Any:
        # The real selection, with the cancel sent after its third pick and the worker's own question asked until
        # the heartbeat has brought it.
        def advance(picked: int, total: int) -> None:
            on_progress(picked, total)
            if picked == 3:
                answer = any_service.http.post(f"/v1/jobs/{job['id']}/cancel")
                assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
                deadline = time.monotonic() + 120
                while not should_stop() and time.monotonic() < deadline:
                    time.sleep(0.02)
                stopped.set()

        return real(*args, on_progress=advance, should_stop=should_stop, **kwargs)

    monkeypatch.setattr(spice_select.pipeline.select, "select", select_slowly)
    any_service.drain()
    assert stopped.is_set()
    job = any_service.job(job["id"])
    assert (job["status"], job["partial"]) == ("cancelled", True)
    assert job["result"]["selected"] == 3
    assert job["result"]["stop_reason"] == "cancelled"
    whole = any_service.submit(ready["id"], budget={"count": 12})
    monkeypatch.undo()
    any_service.drain()

    def rows(job_id: str) -> list[int]:
        data = any_service.http.get(f"/v1/jobs/{job_id}/selection").json()["data"]
        return [sample["source_row"] for sample in data]

    assert rows(whole["id"])[:3] == rows(job["id"]), "the prefix is what a smaller budget would have given"


def test_a_job_past_its_deadline_expires(any_service: InProcessService, ready: dict[str, Any]) -> None:
    job = any_service.submit(ready["id"], deadline_seconds=0.05)
    time.sleep(0.1)
    any_service.runner.units.sweep()
    assert any_service.job(job["id"])["status"] == "expired"
    assert any_service.drain() == 0


def test_jobs_are_listed_by_status_and_data_set(service: InProcessService) -> None:
    one, two = service.push(jsonl(sums(4))), service.push(jsonl(sums(5)))
    done = service.submit(one["id"])
    service.drain()
    waiting = service.submit(two["id"])

    def ids(query: str) -> list[str]:
        return [job["id"] for job in service.http.get(f"/v1/jobs{query}").json()["data"]]

    assert ids("") == [waiting["id"], done["id"]]
    assert ids("?status=succeeded") == [done["id"]]
    assert ids(f"?dataset_id={two['id']}") == [waiting["id"]]
    assert service.http.get("/v1/jobs?status=bogus").status_code == 422


def test_waiting_ends_when_the_job_does(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(4)))
    job = service.submit(dataset["id"])
    worker = threading.Timer(0.3, service.drain)
    worker.start()
    began = time.monotonic()
    seen = service.job(job["id"])
    while seen["status"] not in {"succeeded", "failed"} and time.monotonic() - began < 120:
        response = service.http.get(f"/v1/jobs/{job['id']}?wait=10")
        seen = response.json()
    worker.join()
    assert seen["status"] == "succeeded"
    assert "Retry-After" not in response.headers
    began = time.monotonic()
    service.http.get(f"/v1/jobs/{job['id']}?wait=10")
    assert time.monotonic() - began < 9, "a job that has ended is answered at once"
    assert service.http.get(f"/v1/jobs/{job['id']}?wait=31").status_code == 422


def test_a_budget_in_tokens_is_kept(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(12)))
    job = service.submit(dataset["id"], budget={"tokens": 300})
    service.drain()
    job = service.job(job["id"])
    assert job["status"] == "succeeded", job
    assert 0 < job["result"]["tokens_selected"] <= 300
    asked = {"dataset_id": dataset["id"], "budget": {"tokens": 1}, "gradients": {"sketch_dim": 4, "max_length": 128}}
    known = service.http.post("/v1/jobs", json=asked)
    assert (known.status_code, known.json()["code"]) == (422, "budget-exceeds-pool"), "the gradients tell the lengths"
    small = service.submit(dataset["id"], budget={"tokens": 1}, gradients={"sketch_dim": 5, "max_length": 128})
    service.drain()
    small = service.job(small["id"])
    assert (small["status"], small["error"]["code"]) == ("failed", "budget-exceeds-pool")
    assert small["error"]["errors"][0]["pointer"] == "#/budget/tokens"


METHODS = [
    "spice",
    "fisher",
    "random",
    "length_matched",
    "top_norm",
    "loss",
    "dpp",
    "facility_location",
    "k_center",
    "herding",
]


def test_every_method_runs_on_the_same_gradients(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(8)))
    jobs = {method: service.submit(dataset["id"], method=method)["id"] for method in METHODS}
    service.drain()
    results = {method: service.job(job_id) for method, job_id in jobs.items()}
    assert {job["status"] for job in results.values()} == {"succeeded"}, results
    assert {job["result"]["selected"] for job in results.values()} == {3}
    assert len({job["gradient_set_id"] for job in results.values()}) == 1


def test_quotas_count_by_a_column(service: InProcessService) -> None:
    records = [{**record, "domain": "ab"[index % 2]} for index, record in enumerate(sums(10))]
    dataset = service.push(jsonl(records))
    quotas = {"column": "domain", "floors": {"a": 1}, "caps": {"b": 1}}
    job = service.submit(dataset["id"], budget={"count": 5}, selection={"quotas": quotas})
    even = service.submit(
        dataset["id"], method="stratified", budget={"count": 4}, selection={"quotas": {"column": "domain"}}
    )
    service.drain()
    chosen = service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    assert [records[row["source_row"]]["domain"] for row in chosen].count("b") <= 1
    assert len(chosen) == 5
    shares = service.http.get(f"/v1/jobs/{even['id']}/selection").json()["data"]
    assert sorted(records[row["source_row"]]["domain"] for row in shares) == ["a", "a", "b", "b"]


def test_samples_that_cannot_be_measured_are_counted_and_listed_by_source_row(service: InProcessService) -> None:
    records: list[dict[str, Any]] = list(sums(6))
    records.insert(2, {"instruction": "nothing", "output": ""})
    records.insert(4, {"instruction": "long", "output": "word " * 100})
    dataset = service.push(jsonl(records))
    gradients = {"sketch_dim": 4, "max_length": 128, "overflow": "exclude"}
    job = service.submit(dataset["id"], gradients=gradients, budget={"fraction": 1.0})
    service.drain()
    result = service.job(job["id"])["result"]
    assert (result["pool"], result["excluded"], result["selected"]) == (6, 1, 6)
    assert [(entry["source_row"], entry["code"]) for entry in result["excluded_samples"]] == [(4, "too-long")]
