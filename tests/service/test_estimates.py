"""What is said before a job runs, held against what it then takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.ids import DEFAULT_PROJECT
from app.services.access.keys import KeyService
from app.services.health import ROOT
from app.services.jobs.estimated_seconds import PROCESSOR_FLOPS, SHARD_SECONDS, TOKEN_SECONDS
from spice_select.client import Client
from spice_select.models.architecture import TINY, proxy_shape
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.service.test_page_submit import send

SMALL = {"sketch_dim": 4, "max_length": 128}


def asked(service: InProcessService, dataset_id: str, **body: Any) -> dict[str, Any]:
    body = {"dataset_id": dataset_id, "budget": {"count": 3}, "gradients": SMALL, **body}
    answer = service.http.post("/v1/estimates", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_estimate_tells_nothing_of_another_project(sqlite_url: str, tmp_path: Path) -> None:
    """Neither that it has the same rows, nor how long anything took it."""
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    keys = service.app.state.services.keys
    secrets = {name: keys.create(keys.create_project(name).id, name)[1] for name in ("one", "other")}
    rows = jsonl(sums(12))
    with service:
        datasets = {}
        for name, secret in secrets.items():
            service.http.headers["Authorization"] = f"Bearer {secret}"
            datasets[name] = service.push(rows)["id"]
        before = asked(service, datasets["other"])
        service.http.headers["Authorization"] = f"Bearer {secrets['one']}"
        service.submit(datasets["one"], gradients=SMALL)
        service.drain()
        assert asked(service, datasets["one"])["tokens_basis"] == "measured"
        service.http.headers["Authorization"] = f"Bearer {secrets['other']}"
        after = asked(service, datasets["other"])
        assert (after["tokens_basis"], after["shards"]["done"], after["gradients_reused"]) == ("assumed", 0, False)
        assert {**after, "disk": None} == {**before, "disk": None}


def test_the_start_of_a_queued_job_is_not_estimated_from_what_others_jobs_took(sqlite_url: str, tmp_path: Path) -> None:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    keys = KeyService(service.runner.database)
    first, other = (keys.create(project, "key")[1] for project in (DEFAULT_PROJECT, keys.create_project("other").id))
    with service:
        estimates = []
        for secret in (first, other):
            service.http.headers["Authorization"] = f"Bearer {secret}"
            dataset = service.push(jsonl(sums(8)))["id"]
            if secret == first:
                service.submit(dataset)
                service.drain()
            service.submit(dataset, seed=1)
            claim = service.runner.units.claim_next("somebody")  # so that work goes on, without which nothing is said
            assert claim is not None
            estimates.append(service.submit(dataset, seed=2)["queue"]["estimated_start_at"])
    assert estimates[0] is not None, "of one's own past jobs"
    assert estimates[1] is None


def test_an_estimate_learns_from_what_was_measured(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(30)))
    before = asked(any_service, dataset["id"])
    assert (before["rows"], before["tokens_basis"], before["gradients_reused"]) == (30, "assumed", False)
    assert before["seconds"] == {"gradients": None, "selecting": None, "other": 1.0, "total": None}
    assert before["seconds_basis"] is None, "no worker has said what it computes on"
    assert before["fits"] is None
    assert any(note.startswith("seconds:") for note in before["notes"])
    assert before["shards"] == {"total": 1, "done": 0}
    assert any_service.http.get("/v1/gradient-sets").json()["data"] == [], "an estimate makes nothing"

    job = any_service.submit(dataset["id"], gradients=SMALL)
    assert {**job["estimate"], "disk": None} == {**before, "disk": None}
    any_service.drain()
    done = any_service.job(job["id"])
    actual = done["estimate"]["actual"]
    assert actual["tokens"] == done["result"]["tokens_pool"]
    assert actual["seconds"]["gradients"] == done["result"]["seconds"]["gradients"]

    # The stored features are as many as was said: 4 bytes each.
    with any_service.runner.database.read() as session:
        [sha256] = session.scalars(text("SELECT artifact_sha256 FROM unit_commit WHERE artifact_sha256 IS NOT NULL"))
    stored = any_service.settings.data_dir.rglob(sha256)
    [path] = list(stored)
    assert before["gradient_bytes"] == 30 * before["features"] * 4
    assert before["gradient_bytes"] < path.stat().st_size < before["gradient_bytes"] + 20_000

    again = asked(any_service, dataset["id"])
    assert again["gradients_reused"]
    assert again["disk"]["needed"] == 0
    assert again["tokens_basis"] == "measured"
    assert abs(again["tokens"] - actual["tokens"]) <= 1
    assert again["seconds"]["gradients"] == 0
    assert again["seconds"]["selecting"] > 0
    assert again["fits"] is True
    assert again["memory"]["device"] == again["memory"]["host"] > 2**28

    other = any_service.push(jsonl(sums(60, start=100)))
    guess = asked(any_service, other["id"])
    assert guess["tokens_basis"] == "other_data"
    assert guess["seconds"]["gradients"] > 0
    assert guess["seconds"]["total"] == pytest.approx(
        guess["seconds"]["gradients"] + guess["seconds"]["selecting"] + guess["seconds"]["other"], abs=0.002
    )
    assert guess["seconds_basis"] == "measured"
    job = any_service.submit(other["id"], gradients=SMALL)
    any_service.drain()
    done = any_service.job(job["id"])
    assert guess["tokens"] == pytest.approx(done["result"]["tokens_pool"], rel=0.15)
    took = done["estimate"]["actual"]["seconds"]
    assert guess["seconds"]["selecting"] < 10 * took["selecting"] + 1, "once said 500 times too long"
    finer = asked(any_service, other["id"], gradients={**SMALL, "sketch_dim": 8})
    assert finer["seconds_basis"] == "other_settings"


def test_the_seconds_count_the_tokens_of_tuning(service: InProcessService) -> None:
    gradients = {**SMALL, "warmup_steps": 3, "tuning": {"step_tokens": 500}}
    job = service.submit(service.push(jsonl(sums(30)))["id"], gradients=gradients)
    service.drain()
    [shard] = service.http.get(f"/v1/gradient-sets/{service.job(job['id'])['gradient_set_id']}").json()["shards"]
    other = service.push(jsonl(sums(40, start=100)))
    guess = asked(service, other["id"], gradients=gradients)
    shape = proxy_shape(TINY)
    assert shape is not None
    a_token = TOKEN_SECONDS + 6 * shape.parameters / PROCESSOR_FLOPS

    def seconds(tokens: float) -> float:
        """Of so many tokens, on the scale of the shard that was measured."""
        return shard["seconds"] * (SHARD_SECONDS + tokens * a_token) / (SHARD_SECONDS + shard["tokens"] * a_token)

    assert guess["seconds"]["gradients"] == pytest.approx(seconds(guess["tokens"] + 3 * 500), abs=0.002)
    assert any("a token of tuning counts like one that is measured" in note for note in guess["notes"])
    by_windows = {
        "schedule": {"kind": "periodic", "steps_every": 1},
        "selection": {"scope": {"kind": "windows", "size": 8}},
        "budget": {"count": 10},
    }
    guess = asked(service, other["id"], gradients=gradients, **by_windows)
    assert guess["seconds"]["gradients"] == pytest.approx(seconds(guess["tokens"] * 1.25 + 3 * 500), abs=0.002)


def test_an_estimate_says_what_the_work_costs_where_a_price_is_set(sqlite_url: str, tmp_path: Path) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", price_per_hour=36.0, price_currency="EUR") as service:
        pool = service.push(jsonl(sums(30)))["id"]
        assert asked(service, pool)["cost"] is None, "no seconds are known yet"
        job = service.submit(pool, gradients=SMALL)
        service.drain()
        other = service.push(jsonl(sums(40, start=100)))["id"]
        told = asked(service, other)
        hundredth = pytest.approx(told["seconds"]["total"] / 100, abs=1e-6)
        assert told["cost"] == {"amount": hundredth, "currency": "EUR", "per_hour": 36.0}
        with Client(str(service.http.base_url)) as client:
            assert client.jobs.estimate(other, 3, gradients=SMALL).cost == told["cost"]
        kept = service.submit(other, gradients=SMALL)
        assert service.job(kept["id"])["estimate"]["cost"]["currency"] == "EUR"
        assert service.job(job["id"])["estimate"]["cost"] is None
        send(service, dataset_id=other)  # the page is silent about seconds until such a job has ended
        service.drain()
        page = send(service, dataset_id=other, do="estimate").text
        assert " EUR" in page, page


def test_without_a_price_no_estimate_names_money(service: InProcessService) -> None:
    pool = service.push(jsonl(sums(12)))["id"]
    service.submit(pool, gradients=SMALL)
    service.drain()
    told = asked(service, pool)
    assert told["seconds"]["total"] is not None
    assert told["cost"] is None


def test_the_peak_of_memory_is_told_whatever_is_done(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(30)))["id"]
    windows = {"selection": {"scope": {"kind": "windows", "size": 8}}, "budget": {"count": 10}}

    def peaks(gradients: dict[str, Any], **body: Any) -> dict[str, int]:
        found: dict[str, int] = asked(service, dataset, gradients={**SMALL, **gradients}, **body)["memory"]
        assert found["gradients"] > found["gradients_least"]
        return found

    offline = peaks({})
    assert offline["tuning"] is None
    for weights in ("lora", "full"):
        tuning = {"tuning": {"weights": weights}}
        warm = peaks({"warmup_steps": 3, **tuning})
        assert warm["tuning"] > warm["tuning_least"]
        assert warm["gradients"] == offline["gradients"], "a warm-up is over before anything is measured"
        stepping = peaks(tuning, schedule={"kind": "periodic", "steps_every": 1}, **windows)
        assert (stepping["tuning"], stepping["tuning_least"]) == (warm["tuning"], warm["tuning_least"])
        held = stepping["gradients_least"] - stepping["tuning_least"]
        assert held == 8 * 4 * asked(service, dataset)["features"], "one window's gradients beside what the steps need"
    still = peaks({}, schedule={"kind": "periodic", "steps_every": None}, **windows)
    assert still["tuning"] is None
    assert still["gradients_least"] < offline["gradients_least"]
    assert peaks({"batch_tokens": 64})["gradients"] < offline["gradients"]


def test_a_job_that_cannot_fit_is_refused_and_leaves_nothing(sqlite_url: str, tmp_path: Path) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", worker_memory_bytes=300_000) as service:
        dataset = service.push(jsonl(sums(12)))
        found = asked(service, dataset["id"], gradients={"sketch_dim": None})
        assert found["fits"] is False
        assert found["memory"]["gradients_least"] > 300_000
        body = {"dataset_id": dataset["id"], "budget": {"count": 3}, "gradients": {"sketch_dim": None}}
        answer = service.http.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "does-not-fit")
        assert answer.json()["errors"][0]["pointer"] == "#/gradients"
        assert [error["detail"] for error in answer.json()["errors"]] == found["obstacles"]
        assert service.http.get("/v1/jobs").json()["data"] == []
        assert service.http.get("/v1/gradient-sets").json()["data"] == []
        assert service.drain() == 0


@pytest.mark.parametrize(
    ("budget", "selection", "least"),
    [
        ({"count": 3}, {}, 8 * 3),
        ({"fraction": 0.5}, {}, 8 * 15),
        ({"fraction": 0.5}, {"max_count": 2}, 8 * 2),
        ({"tokens": 900}, {}, 0),
        ({"count": 3}, {"scope": {"kind": "partitioned", "parts": 4}}, 4 * 8),
        ({"count": 3}, {"scope": {"kind": "partitioned", "parts": 20}}, 8 * 3),
    ],
)
def test_choosing_needs_the_chosen_rows_and_a_part_not_the_pool(
    service: InProcessService, budget: dict[str, Any], selection: dict[str, Any], least: int
) -> None:
    dataset = service.push(jsonl(sums(30)))
    found = asked(service, dataset["id"], budget=budget, selection=selection)
    assert found["memory"]["selecting_least"] == least * found["features"]


def test_an_estimate_is_refused_like_the_job(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(8)))
    body = {"dataset_id": dataset["id"], "budget": {"count": 3}, "proxy": {"model": "org/unknown"}}
    assert service.http.post("/v1/estimates", json=body).json()["code"] == "proxy-not-allowed"
    body = {"dataset_id": "ds_none", "budget": {"count": 3}}
    assert service.http.post("/v1/estimates", json=body).status_code == 404
    assert service.http.post("/v1/estimates", json={}).status_code == 422


def test_client_and_command_ask_for_estimates(service: InProcessService, tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(jsonl(sums(20)))
    url = str(service.http.base_url)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "spice_select", "estimate", *arguments]
        env = {**os.environ, "SPICE_API_URL": url}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)

    worker = threading.Thread(target=lambda: wait_and_drain(service))
    worker.start()
    sent = run(str(path), "--budget", "10%", "--json")
    worker.join()
    assert sent.returncode == 0, sent.stderr
    dataset_id = json.loads(sent.stdout)["dataset_id"]
    assert json.loads(sent.stdout)["rows"] == 20
    with Client(url) as client:
        found = client.jobs.estimate(dataset_id, "10%", gradients=SMALL)
    assert (found.rows, found.fits) == (20, None)
    shown = run(dataset_id, "--budget", "10%", "--sketch-dim", "4")
    assert re.search(r"^rows +20$", shown.stdout, re.MULTILINE)
    assert re.search(r"^memory for selection +\d+", shown.stdout, re.MULTILINE)
    assert "note: seconds:" in shown.stderr
    assert run("/nowhere.jsonl", "--budget", "10%").returncode == 2


def wait_and_drain(service: InProcessService) -> None:
    """Be the worker until something has been done."""
    deadline = time.monotonic() + 240
    while not service.drain() and time.monotonic() < deadline:
        time.sleep(0.05)
