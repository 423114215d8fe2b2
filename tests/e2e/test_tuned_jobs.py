"""Warm-up and the schedule ``periodic`` on PostgreSQL, Redis and Celery: 1, 2, 3 workers and a kill, the same bytes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import select

import spice_select as ss
from app.persistence.session import Database
from app.persistence.tables import Unit, UnitCommit
from app.status import UnitKind
from spice_select.pipeline.run import run
from tests.e2e.conftest import ENDED, Deployment
from tests.fixtures.service import jsonl, sums

DATA = jsonl(sums(240))
BODY: dict[str, Any] = {
    "budget": {"count": 60},
    "schedule": {"kind": "periodic", "steps_every": 1},
    "selection": {"scope": {"kind": "windows", "size": 8}},
    "gradients": {
        "sketch_dim": 4,
        "max_length": 64,
        "targets": "lora",
        "lora_rank": 2,
        "warmup_steps": 3,
        "tuning": {"learning_rate": 1e-2, "step_tokens": 64},
    },
}
COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")


def wait_until_half_way(deployment: Deployment, job_id: str) -> None:
    """Look often: a wait for the next phase would sleep through all windows."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = deployment.http.get(f"/v1/jobs/{job_id}").json()
        assert found["status"] not in ENDED, "it ended before it could be interrupted"
        if found["phase"] == "choosing_windows" and found["progress"]["completed"] >= 24:
            return
        time.sleep(0.05)
    raise AssertionError("no window was chosen from in two minutes")


def test_any_number_of_workers_and_a_kill_give_the_bytes_of_one_process(deployment: Deployment, tmp_path: Path) -> None:
    dataset_id = ""
    results = []
    for workers in (1, 2, 3):
        deployment.add_worker()
        dataset_id = dataset_id or deployment.push(DATA)["id"]
        job = deployment.submit(dataset_id, **BODY)
        if workers == 3:
            wait_until_half_way(deployment, job["id"])
            for worker in deployment.workers:
                worker.kill()
            deployment.add_worker()
        ended = deployment.wait(job["id"])
        assert ended["status"] == "succeeded", ended
        results.append({name: deployment.http.get(f"/v1/jobs/{job['id']}/files/{name}").content for name in COMPARED})
    database = Database(deployment.env["SPICE_DATABASE_URL"])
    with database.read() as session:
        last = session.scalars(select(Unit).where(Unit.job_id == job["id"])).one()
        warmups = session.scalars(
            select(UnitCommit).join(Unit, Unit.id == UnitCommit.unit_id).where(Unit.kind == UnitKind.WARMUP)
        ).all()
    database.dispose()
    assert last.lost_leases == 1, "the kill hit it"
    assert len(warmups) == 1
    assert results[1] == results[0]
    assert results[2] == results[0]

    (tmp_path / "pool.jsonl").write_bytes(DATA)
    config = ss.RunConfig.model_validate(
        {
            "gradients": BODY["gradients"],
            "schedule": BODY["schedule"],
            "selection": {"budget": BODY["budget"], **BODY["selection"]},
        }
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers of these tests: sums in another order have other last bits
    try:
        run(tmp_path / "pool.jsonl", config, tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    assert {name: (tmp_path / "alone" / name).read_bytes() for name in COMPARED} == results[0]
