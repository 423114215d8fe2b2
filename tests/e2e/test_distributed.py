"""The whole service as it is deployed: API, dispatcher, Celery workers, PostgreSQL, a Redis-protocol broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import redis

import spice_select as ss
from spice_select.pipeline.run import run
from tests.e2e.conftest import ENDED, Deployment
from tests.fixtures.service import jsonl, sums

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
UNITS = {"POST /v1/jobs", "unit gradients", "unit select"}
SETTINGS = {"gradients": {"sketch_dim": 16, "max_length": 128}}


def computing(found: dict[str, Any]) -> bool:
    return found["phase"] == "computing_gradients" or found["status"] in ENDED


def loaded_libraries(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_two_workers_choose_what_the_library_chooses(deployment: Deployment, tmp_path: Path) -> None:
    data = jsonl(sums(2100))
    for _ in range(2):
        deployment.add_worker()
    dataset = deployment.push(data)
    assert (dataset["status"], dataset["num_usable"]) == ("ready", 2100)
    traced = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    job = deployment.wait(deployment.submit(dataset["id"], traced, budget={"count": 21}, **SETTINGS)["id"])
    assert job["status"] == "succeeded", job
    gradient_set = deployment.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()
    assert (gradient_set["status"], gradient_set["num_shards"]) == ("ready", 3)
    config = ss.RunConfig(
        gradients=ss.GradientConfig(sketch_dim=16, max_length=128),
        selection=ss.SelectionConfig(budget=ss.Budget(count=21)),
    )
    source = tmp_path / "pool.jsonl"
    source.write_bytes(data)
    run(source, config, tmp_path / "out")
    chosen = deployment.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").content
    assert chosen == (tmp_path / "out" / "selected.jsonl").read_bytes()
    again = deployment.wait(deployment.submit(dataset["id"], budget={"count": 5}, **SETTINGS)["id"])
    assert again["gradients_reused"] is True
    # From the caller by way of the API and the broker to each unit, whichever process did it.
    deadline = time.monotonic() + 120
    while (spans := deployment.spans(TRACE)).keys() < UNITS and time.monotonic() < deadline:
        time.sleep(0.1)
    assert spans.keys() >= UNITS
    ((part, posted),) = spans["POST /v1/jobs"]
    assert (part, posted.parent_span_id.hex()) == ("spice-select-api", CALLER)
    assert len(spans["unit gradients"]) == 3
    for part, span in (*spans["unit gradients"], *spans["unit select"]):
        assert (part, span.parent_span_id) == ("spice-select-worker", posted.span_id)
    assert again["result"]["seconds"]["gradients"] == 0
    for worker in deployment.workers:
        assert "libtorch" not in loaded_libraries(worker.pid), "the parent must stay free of torch"
    children = [child for worker in deployment.workers for child in psutil.Process(worker.pid).children()]
    assert any("libtorch" in loaded_libraries(child.pid) for child in children)


def test_a_stopped_worker_gives_its_unit_back_and_a_killed_one_and_an_emptied_broker_cost_only_time(
    deployment: Deployment,
) -> None:
    stopped = deployment.add_worker()
    dataset = deployment.push(jsonl(sums(3000, 10_000)))
    job = deployment.submit(dataset["id"], budget={"count": 10}, **SETTINGS)
    deployment.settle(f"/v1/jobs/{job['id']}", computing)
    began = time.monotonic()
    stopped.stop(90)
    assert time.monotonic() - began < 60
    assert '"outcome": "released"' in stopped.log.read_text()
    killed = deployment.add_worker()
    deadline = time.monotonic() + 120
    while "unit_started" not in killed.log_text():
        assert time.monotonic() < deadline, "the unit that was given back is not taken up"
        time.sleep(0.05)
    killed.kill()
    with redis.Redis.from_url(deployment.env["SPICE_BROKER_URL"], socket_timeout=5) as broker:
        broker.flushall()
    deployment.add_worker()
    ended = deployment.wait(job["id"])
    assert ended["status"] == "succeeded", ended


def test_jobs_are_accepted_while_the_broker_and_the_dispatcher_are_away(deployment: Deployment) -> None:
    deployment.dispatcher.stop()
    dataset = deployment.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(20)))})
    assert dataset.status_code == 202
    deployment.dispatcher.start().wait_ready()
    deployment.add_worker()
    ready = deployment.settle(dataset.headers["Location"], lambda found: found["status"] != "validating")
    assert ready["status"] == "ready"


def test_a_killed_worker_costs_an_evaluation_the_training_it_was_at(deployment: Deployment) -> None:
    first = deployment.add_worker()
    dataset, held = deployment.push(jsonl(sums(300))), deployment.push(jsonl(sums(20, 5000)))
    job = deployment.wait(deployment.submit(dataset["id"], budget={"count": 60}, **SETTINGS)["id"])
    training = {"epochs": 4.0, "batch_rows": 4, "learning_rate": 0.003}
    body = {"job_id": job["id"], "holdout_dataset_id": held["id"], "seeds": 2, "training": training}
    where = deployment.http.post("/v1/evaluations", json={**body, "controls": ["random", "full"]}).headers["Location"]

    def under_way(found: dict[str, Any]) -> bool:
        progress = found["progress"]
        return found["status"] in ENDED or (progress is not None and 1 <= progress["completed"] <= 3)

    half = deployment.settle(where, under_way, wait=0)  # an answer that is waited for may miss short trainings
    assert half["status"] == "running", half
    first.kill()
    for _ in range(2):
        deployment.add_worker()
    ended = deployment.settle(where, lambda found: found["status"] in ENDED, 240)
    assert ended["status"] == "succeeded", ended
    events = deployment.http.get(f"{where}/events").json()["data"]
    assert [event["type"] for event in events].count("evaluation.trained") == 4 * 2
    assert ended["result"]["verdict"] in {"better", "worse", "no_difference", "cannot_tell"}
