"""The scripts of ``examples/consumers`` on a finished job: those whose packages are here run, the others write."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.services.health import ROOT
from tests.fixtures.models import tiny_folder
from tests.fixtures.network import OFFLINE
from tests.integrations.conftest import Finished

CONSUMERS = ROOT / "examples" / "consumers"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("model"))


def run(name: str, finished: Finished, folder: Path, *arguments: object, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPICE_", "HF_"))}
    env = {
        **kept,
        **OFFLINE,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "SPICE_API_URL": finished.url,
        "SPICE_API_KEY": finished.secret,
        **environment,
    }
    command = [sys.executable, str(CONSUMERS / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_plain_pytorch_learns_the_selected_rows(finished: Finished, model: Path, tmp_path: Path) -> None:
    told = run("train_pytorch.py", finished, tmp_path, finished.job_id, "--model", model, "--steps", 12,
               "--learning-rate", 0.01)  # fmt: skip
    losses = [json.loads(line)["loss"] for line in told.splitlines() if line.startswith("{")]
    assert len(losses) == 12
    assert losses[-1] < 0.8 * losses[0], losses
    assert (tmp_path / "trained" / "model.safetensors").is_file()


def test_trl_trains_on_the_selected_rows(finished: Finished, model: Path, tmp_path: Path) -> None:
    run("train_trl.py", finished, tmp_path, finished.job_id, "--model", model, "--steps", 2)
    written = (tmp_path / "trained" / "data" / "train.jsonl").read_text().splitlines()
    assert len(written) == len(finished.chosen)
    assert (tmp_path / "trained" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["llamafactory", "axolotl", "swift"])
def test_trainers_that_are_not_here_get_rows_and_a_configuration(finished: Finished, tmp_path: Path, name: str) -> None:
    told = run(f"train_{name}.py", finished, tmp_path, finished.job_id, "--model", "some/model", "--only-write")
    command = told.splitlines()[-1].split()
    out = tmp_path / "trained"
    if name == "llamafactory":
        settings = json.loads((out / "train.json").read_text())
        assert command == ["llamafactory-cli", "train", "trained/train.json"]
        entry = json.loads((out / "data" / "dataset_info.json").read_text())[settings["dataset"]]
        rows = out / "data" / entry["file_name"]
    else:
        config = yaml.safe_load((out / ("axolotl.yaml" if name == "axolotl" else "data/swift.yaml")).read_text())
        assert command[:2] == {"axolotl": ["axolotl", "train"], "swift": ["swift", "sft"]}[name]
        rows = Path(config["datasets"][0]["path"] if name == "axolotl" else config["dataset"][0])
        assert (tmp_path / command[2]).is_file()
    assert len(rows.read_text().splitlines()) == len(finished.chosen)


def test_mlflow_gets_the_rows_as_an_input_of_the_training(finished: Finished, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    told = run("log_mlflow.py", finished, tmp_path, finished.job_id, MLFLOW_TRACKING_URI=store)
    show = "import mlflow, sys; print(mlflow.get_run(sys.argv[1]).to_dictionary())"
    env = {**os.environ, "MLFLOW_TRACKING_URI": store}
    command = [sys.executable, "-c", show, told.split()[-1]]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "'learning_rate': '0.0001'" in shown
    assert "'spice.selected': 12.0" in shown
    assert "'mlflow.data.context': 'training'" in shown


def test_every_script_can_be_read_and_is_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    scripts = sorted(CONSUMERS.glob("*.py"))
    assert len(scripts) == 9
    for script in scripts:
        ast.parse(script.read_text())
        assert f"`consumers/{script.name}`" in listed
