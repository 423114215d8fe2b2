"""Executors of a scheduler: the exact commands, and a job that their workers end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from tests.fixtures.hooked import until
from tests.fixtures.processes import Dispatcher, environment
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.executors import Embedded, Kubernetes, Slurm, executor_of

RECORD = """#!{python}
import json, os, subprocess, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([name, *words]) + "\\n")
if name == "squeue" or "get" in words:
    print(open(os.environ["LISTED"]).read(), end="")
elif os.environ.get("BROKEN"):
    sys.exit("no such partition")
elif os.environ.get("REALLY"):
    [line] = [word.removeprefix("--wrap=") for word in words if word.startswith("--wrap=")]
    subprocess.Popen(["sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs of the schedulers' names, which write down how they are called."""
    for name in ("sbatch", "squeue", "kubectl"):
        program = tmp_path / name
        program.write_text(RECORD.format(python=sys.executable), encoding="utf-8")
        program.chmod(0o755)
    (tmp_path / "listed").write_text("", encoding="utf-8")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("LISTED", str(tmp_path / "listed"))
    return tmp_path


def calls(folder: Path) -> list[list[str]]:
    found = folder / "record"
    return [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()] if found.exists() else []


def test_slurm_gets_one_array_within_the_bound(scheduler: Path) -> None:
    settings = Settings(executor="slurm", executor_workers=5, executor_options=["--gpus=1"], executor_idle_seconds=7)
    executor = executor_of(settings)
    assert isinstance(executor, Slurm)
    assert executor.start() == 0
    assert calls(scheduler) == [], "nothing is asked where nothing is runnable"
    (scheduler / "listed").write_text("4_0\n4_1\n", encoding="utf-8")
    for number in range(9):
        executor.notify(f"unit_{number}")
    assert executor.start() == 3
    listed, started = calls(scheduler)
    name = "spice-select-worker"
    assert listed == ["squeue", "--me", "--array", "--noheader", f"--name={name}", "--format=%i"]
    assert started == [
        "sbatch", "--parsable", f"--job-name={name}", "--array=0-2", "--export=ALL", "--no-requeue", "--gpus=1",
        f"--wrap=exec {sys.executable} -m workers poll --until-idle 7",
    ]  # fmt: skip
    assert executor.start() == 0, "the units of a round are started for once"


def test_kubernetes_gets_a_job_for_each_worker_of_the_template(scheduler: Path) -> None:
    def job(*conditions: str) -> dict[str, object]:
        return {"status": {"conditions": [{"type": name, "status": "True"} for name in conditions]}}

    found = {"items": [job("Complete"), job("Failed"), job("Suspended"), {"status": {}}]}
    (scheduler / "listed").write_text(json.dumps(found), encoding="utf-8")
    options = ["--namespace=spice-select"]
    executor = executor_of(Settings(executor="kubernetes", executor_workers=4, executor_options=options))
    assert isinstance(executor, Kubernetes)
    for number in range(3):
        executor.notify(f"unit_{number}")
    assert executor.start() == 2, "two live already"
    listed, *made = calls(scheduler)
    selector = "--selector=part=spice-select-worker"
    assert listed == ["kubectl", *options, "get", "jobs", selector, "--output=json"]
    assert [call[:4] for call in made] == [["kubectl", *options, "create", "job"]] * 2
    assert {call[5] for call in made} == {"--from=cronjob/spice-select-worker"}
    assert len({call[4] for call in made}) == 2
    assert all(len(call[4]) <= 63 for call in made)


def test_a_scheduler_that_refuses_says_why_and_is_asked_again(scheduler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = executor_of(Settings(executor="slurm"))
    monkeypatch.setenv("BROKEN", "1")
    executor.notify("unit_1")
    with pytest.raises(RuntimeError, match="sbatch ended with status 1: no such partition"):
        executor.start()
    monkeypatch.delenv("BROKEN")
    executor.notify("unit_1")
    assert executor.start() == 1


def test_embedded_starts_nothing() -> None:
    executor = executor_of(Settings(executor="embedded"))
    assert isinstance(executor, Embedded)
    executor.notify("unit_1")
    assert (executor.start(), executor.backlog()) == (0, 0)


def test_workers_of_an_array_do_a_job_and_end_when_idle(sqlite_url: str, scheduler: Path) -> None:
    """The dispatcher's own command, with an ``sbatch`` that runs what it is given, once."""
    service = InProcessService(sqlite_url, scheduler / "data")
    extra = {"SPICE_EXECUTOR": "slurm", "SPICE_EXECUTOR_IDLE_SECONDS": "3", "REALLY": "1"}
    env = environment(data_dir=scheduler / "data", database_url=sqlite_url, extra=extra)
    with service, Dispatcher(env, scheduler):
        dataset = service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(12)))}).json()
        until(lambda: service.http.get(f"/v1/datasets/{dataset['id']}").json()["status"] == "ready", "the data set")
        job = service.submit(dataset["id"])
        until(lambda: service.job(job["id"])["status"] == "succeeded", "the job")
    assert "sbatch" in {call[0] for call in calls(scheduler)}
