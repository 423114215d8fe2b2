"""Data sets with the same conversations share gradients and warm-ups; each has row files of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.services.storage.retention import Retention
from tests.fixtures.service import InProcessService, jsonl, sums

WARM = {"sketch_dim": 4, "max_length": 128, "targets": "lora", "lora_rank": 2, "warmup_steps": 2}
BEHIND_ONE_THAT_IS_REJECTED = jsonl([*sums(3), {"instruction": "Add."}, *sums(9, start=3)])
WITH_A_COLUMN = jsonl([{**record, "origin": "elsewhere"} for record in sums(12)])


@pytest.fixture
def any_service(any_database_url: str, tmp_path: Path) -> Any:
    with InProcessService(any_database_url, tmp_path / "data", gradient_days=1e-9) as running:
        yield running


@pytest.fixture
def service(sqlite_url: str, tmp_path: Path) -> Any:
    with InProcessService(sqlite_url, tmp_path / "data") as running:
        yield running


def succeeded(service: InProcessService, job: dict[str, Any]) -> list[list[Any]]:
    """What was chosen, and by which gains."""
    service.drain()
    found = service.job(job["id"])
    assert found["status"] == "succeeded", found["error"]
    rows = service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    return [[row["gain"], row["conflict"], row["tokens"]] for row in rows]


def lost(service: InProcessService) -> None:
    """Take away what was measured, and leave the records."""
    with service.runner.database.read() as session:
        made = session.scalars(text("SELECT artifact_sha256 FROM unit_commit WHERE artifact_sha256 IS NOT NULL")).all()
    for sha256 in made:
        for path in service.settings.data_dir.rglob(sha256):
            path.unlink()


def expired(service: InProcessService) -> None:
    time.sleep(0.01)
    retention = Retention(service.runner.database, service.runner.store, service.settings)
    assert retention.sweep()["gradient_sets_expired"] > 0


@pytest.mark.parametrize(("gone", "warm"), [(expired, False), (lost, True)], ids=["expired", "lost, with the warm-up"])
def test_a_job_measures_its_own_rows_where_those_of_a_deleted_twin_are_gone(
    any_service: InProcessService, gone: Any, warm: bool
) -> None:
    settings: dict[str, Any] = {"gradients": WARM} if warm else {}
    # A warm-up sees the rows, gradients only the conversations: the same may lie behind a row that cannot be used, or
    # have another column, and be in other files.
    first = any_service.push(BEHIND_ONE_THAT_IS_REJECTED)["id"]
    second = any_service.push(jsonl(sums(12)) if warm else WITH_A_COLUMN)["id"]
    before = any_service.submit(first, **settings)
    wanted = succeeded(any_service, before)
    assert any_service.http.delete(f"/v1/datasets/{first}").status_code == 204
    gone(any_service)
    job = any_service.submit(second, **settings)
    assert job["gradient_set_id"] == before["gradient_set_id"]
    assert succeeded(any_service, job) == wanted


def test_a_job_goes_on_when_the_twin_that_its_gradients_were_begun_for_is_deleted(
    service: InProcessService,
) -> None:
    first, second = service.push(jsonl(sums(12)))["id"], service.push(WITH_A_COLUMN)["id"]
    given_up, job = service.submit(first), service.submit(second)
    assert job["gradient_set_id"] == given_up["gradient_set_id"]
    assert service.http.post(f"/v1/jobs/{given_up['id']}/cancel").status_code in {200, 202}
    assert service.http.delete(f"/v1/datasets/{first}").status_code == 204
    succeeded(service, job)


def test_a_target_is_measured_from_its_own_rows_where_its_twin_is_deleted(service: InProcessService) -> None:
    pool, first = service.push(jsonl(sums(20, start=50)))["id"], service.push(jsonl(sums(12)))["id"]
    before = service.submit(pool, method="less", target_dataset_id=first)
    wanted = succeeded(service, before)
    second = service.push(WITH_A_COLUMN)["id"]
    assert service.http.delete(f"/v1/datasets/{first}").status_code == 204
    lost(service)
    job = service.submit(pool, method="less", target_dataset_id=second)
    assert job["target_gradient_set_id"] == before["target_gradient_set_id"]
    assert succeeded(service, job) == wanted
