"""A job in a run of the real MLflow, on a tracking store of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from spice_select.results.result_folder import MEDIA_TYPES
from spice_select.results.signature import ENVELOPE_FILE
from tests.integrations.conftest import Finished, Script

SETUP = """
import json, mlflow
from spice_select.client import Client
mlflow.set_tracking_uri("sqlite:///{folder}/mlflow.db")
experiment = mlflow.create_experiment("selection", artifact_location="file://{folder}/artifacts")
mlflow.set_experiment(experiment_id=experiment)
client = Client("{url}", "{key}")
"""
SHOW = """
run = mlflow.MlflowClient().get_run(logged)
print(json.dumps({
    "status": run.info.status,
    "inputs": [
        [entry.dataset.name, entry.dataset.digest, entry.dataset.source_type, json.loads(entry.dataset.source)["url"],
         {tag.key: tag.value for tag in entry.tags}]
        for entry in run.inputs.dataset_inputs
    ],
    "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags,
}))
"""


def setup(finished: Finished, folder: Path) -> str:
    return SETUP.format(folder=folder, url=finished.url, key=finished.secret)


def test_a_training_run_knows_what_it_was_trained_on(finished: Finished, script: Script, tmp_path: Path) -> None:
    lines = f"""
with mlflow.start_run() as training:
    mlflow.log_param("learning_rate", 1e-4)
    logged = client.log_to_mlflow({finished.job_id!r})
    assert logged == training.info.run_id
    assert mlflow.active_run() is not None, "the run goes on"
"""
    found = json.loads(script(setup(finished, tmp_path) + lines + SHOW).splitlines()[-1])
    job = finished.service.http.get(f"/v1/jobs/{finished.job_id}", headers=finished.headers).json()
    chosen = finished.service.http.get(finished.file_url("selected.parquet"), headers=finished.headers).content
    sha256 = hashlib.sha256(chosen).hexdigest()
    assert found["status"] == "FINISHED"
    inputs = {entry[4]["mlflow.data.context"]: entry for entry in found["inputs"]}
    assert inputs["training"][:4] == [finished.job_id, sha256[:36], "http", finished.file_url("selected.parquet")]
    assert inputs["training"][4]["sha256"] == sha256 == found["tags"]["spice.selected_sha256"]
    pool = finished.service.http.get(f"/v1/datasets/{job['dataset_id']}", headers=finished.headers).json()
    assert inputs["selection_pool"][1] == pool["digest"]["sha256"][:36]
    assert found["params"]["learning_rate"] == "0.0001"
    assert found["params"]["spice.selection.method"] == "spice"
    assert found["params"]["spice.selection.budget.count"] == "12"
    assert found["metrics"]["spice.selected"] == 12
    assert found["metrics"]["spice.utility"] == pytest.approx(job["result"]["utility"])
    assert found["metrics"]["spice.upper_bound"] == pytest.approx(job["result"]["certificate"]["upper_bound"])
    stored = {path.name: path for path in (tmp_path / "artifacts").rglob("spice-select/*")}
    assert set(stored) == {*MEDIA_TYPES, ENVELOPE_FILE}
    assert stored["selected.parquet"].read_bytes() == chosen


def test_without_a_run_it_makes_one_and_closes_it(finished: Finished, script: Script, tmp_path: Path) -> None:
    lines = f"""
logged = client.log_to_mlflow({finished.job_id!r}, artifacts=False)
assert mlflow.active_run() is None
again = client.log_to_mlflow({finished.job_id!r}, run_id=logged, artifacts=False, context="evaluation")
assert again == logged
"""
    found = json.loads(script(setup(finished, tmp_path) + lines + SHOW).splitlines()[-1])
    assert found["tags"]["mlflow.runName"] == finished.job_id
    assert found["tags"]["spice.job_id"] == finished.job_id
    assert not (tmp_path / "artifacts").exists()


def test_the_client_to_be_awaited_notes_the_same(finished: Finished, script: Script, tmp_path: Path) -> None:
    lines = f"""
import asyncio
from spice_select.client import AsyncClient

async def note():
    async with AsyncClient({finished.url!r}, {finished.secret!r}) as awaited:
        return await awaited.log_to_mlflow({finished.job_id!r})

with mlflow.start_run() as training:
    logged = asyncio.run(note())
    assert logged == training.info.run_id
twin = client.log_to_mlflow({finished.job_id!r}, artifacts=False)
first, second = (mlflow.MlflowClient().get_run(each).data for each in (logged, twin))
assert first.params == second.params and first.metrics == second.metrics
"""
    found = json.loads(script(setup(finished, tmp_path) + lines + SHOW).splitlines()[-1])
    assert [entry[0] for entry in found["inputs"]].count(finished.job_id) == 1
    assert {path.name for path in (tmp_path / "artifacts").rglob("spice-select/*")} == {*MEDIA_TYPES, ENVELOPE_FILE}
