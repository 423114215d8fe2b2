"""Trackers from PyPI take a job through their own packages, each in an environment of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.packages import ROOT
from tests.fixtures.service import finished_behind_keys
from tests.integrations.conftest import Finished

pytestmark = pytest.mark.soak

VERSIONS = {"wandb": "0.31.0", "trackio": "0.43.0", "tensorboard": "2.21.0"}
READ_EVENTS = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

found = EventAccumulator(sys.argv[1])
found.Reload()
(text,) = found.Tensors("spice.settings")[0].tensor_proto.string_val
print(json.dumps({"selected": found.Scalars("spice.selected")[0].value, "settings": text.decode()}))
"""


@pytest.fixture(scope="module")
def finished(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with finished_behind_keys(_migrated_sqlite, tmp_path_factory.mktemp("trackers"), rows=40, count=12) as made:
        service, job, secret = made
        yield Finished(service, job["id"], secret, [])


def said(package: str, finished: Finished, folder: Path, *command: str) -> str:
    """What a script says in an environment with the package and the client alone."""
    python = folder / "environment" / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SPICE_", "HF_", "PYTHON"))}
    if not python.exists():
        venv.create(folder / "environment", with_pip=True)
        wanted = [f"{package}=={VERSIONS[package]}", "httpx", "pydantic", "pyarrow"]
        install = [str(python), "-m", "pip", "install", "--quiet", *wanted]
        done = subprocess.run(install, env=clean, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    env = {
        **clean,
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "WANDB_MODE": "offline",
        "TRACKIO_DIR": str(folder / "trackio"),
        "SPICE_API_URL": finished.url,
        "SPICE_API_KEY": finished.secret,
    }
    done = subprocess.run(
        [str(python), *command], cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_keeps_settings_numbers_and_the_digest_of_the_rows(
    finished: Finished, tmp_path: Path, tracker: str
) -> None:
    run = said(tracker, finished, tmp_path, str(ROOT / "examples/consumers/log_trackers.py"), tracker, finished.job_id)
    files = finished.service.http.get(f"/v1/jobs/{finished.job_id}/files", headers=finished.headers).json()["data"]
    sha256 = next(file["sha256"] for file in files if file["name"] == "selected.parquet")
    if tracker == "tensorboard":
        found = json.loads(said(tracker, finished, tmp_path, "-c", READ_EVENTS, run))
        assert found["selected"] == 12
        assert f"| spice.selected_sha256 | {sha256} |" in found["settings"]
        assert "| spice.selection.method | spice |" in found["settings"]
    elif tracker == "trackio":
        with sqlite3.connect(tmp_path / "trackio" / "spice-select.db") as kept:
            numbers, settings = (kept.execute(f"SELECT {column} FROM {table}").fetchall()[0][0]
                                 for table, column in (("metrics", "metrics"), ("configs", "config")))  # fmt: skip
        kept.close()
        assert json.loads(numbers)["spice.selected"] == 12
        assert json.loads(settings)["spice.selected_sha256"] == sha256
        assert json.loads(settings)["spice.selection.method"] == "spice"
    else:
        (written,) = tmp_path.glob(f"wandb/offline-run-*/run-{run}.wandb")
        record = written.read_bytes()
        for part in (sha256, finished.job_id, "spice.selection.method", "spice.selected", "selected.parquet"):
            assert part.encode() in record, part


def test_a_tracker_that_is_not_here_says_what_to_install(finished: Finished) -> None:
    script = [sys.executable, str(ROOT / "examples/consumers/log_trackers.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SPICE_API_URL": finished.url, "SPICE_API_KEY": finished.secret}
    for name, part in (("trackio", "pip install trackio"), ("comet", "no tracker comet")):
        done = subprocess.run([*script, name, finished.job_id], env=env, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert part in done.stderr
