"""The command line: what it prints, how it ends, and that it never shows a traceback."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spice_select.cli.progress import ProgressView
from spice_select.client import Job, QueuePosition
from spice_select.pipeline.progress import RunProgress
from spice_select.version import __version__
from tests.fixtures.commands import DATASET, JOB, RESULT, Command
from tests.fixtures.flaky import Answer, FlakyServer
from tests.fixtures.results import MadeResult

ROOT = Path(__file__).resolve().parents[2]


def test_version_in_both_forms(spice: Command) -> None:
    assert spice("version").out == f"spice-select {__version__}\n"
    assert spice("version", "--json").json()["version"] == __version__


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("pu", {"pull"}),
        ("jobs up", {"update"}),
        ("jobs submit --schedule-", set()),
        ("jobs submit --sch", {"--schedule"}),
    ],
)
def test_the_shell_completes_what_was_begun(typed: str, completed: set[str]) -> None:
    words = ["spice-select", *typed.split()]
    asked = {
        "_SPICE_SELECT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    told = subprocess.run(
        [str(Path(sys.executable).parent / "spice-select")],
        env={**os.environ, **asked}, capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    assert set(told.stdout.split()) == completed


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["jobs", "submit", "--dataset", DATASET],
        ["jobs", "submit", "--dataset", DATASET, "--budget", "lots"],
        ["jobs", "submit", "--dataset", DATASET, "--budget", "0"],
        ["jobs", "submit", "--dataset", DATASET, "--budget", "5", "--revision", "abc"],
        ["jobs", "submit", "--dataset", DATASET, "--budget", "5", "--metadata", "nothing"],
        ["datasets", "push", "/nowhere.jsonl"],
        ["pull", JOB, "-o", "x", "--format", "csv"],
        ["run", __file__, "--budget", "5", "--alpha", "-1"],
        ["run", __file__, "--budget", "5", "--column", "nobody=x"],
        ["run", __file__, "--budget", "5", "--device", "tpu"],
        ["verify", "/nowhere"],
    ],
)
def test_misuse_ends_with_status_2_and_says_why(service: FlakyServer, spice: Command, arguments: list[str]) -> None:
    ended = spice(*arguments)
    assert ended.status == 2
    assert ended.err.strip()
    assert not service.asked("POST /v1/jobs")


def test_a_setting_out_of_range_is_pointed_at(spice: Command, made: MadeResult) -> None:
    ended = spice("run", made.source, "--budget", "5", "--alpha", "0", "--stop-ratio", "2", "--json")
    assert ended.status == 2
    assert "  #/selection/stop_ratio  Input should be less than 1" in ended.err
    pointers = [finding["pointer"] for finding in ended.json()["error"]["errors"]]
    assert pointers == ["#/selection/alpha", "#/selection/stop_ratio"]


def test_what_the_service_refuses_is_one_line_and_its_pointers(service: FlakyServer, spice: Command) -> None:
    problem = {
        "title": "Budget exceeds the pool", "detail": "count is 700, the data set has 586 usable rows", "status": 422,
        "code": "budget-exceeds-pool", "request_id": "req_7",
        "errors": [{"detail": "count is 700, the data set has 586 usable rows", "pointer": "#/budget/count"}],
    }  # fmt: skip
    service.fail("POST /v1/jobs", *[Answer(422, {}, json.dumps(problem).encode())] * 2)
    arguments = ["jobs", "submit", "--dataset", DATASET, "--budget", "700"]
    ended = spice(*arguments)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "error: count is 700, the data set has 586 usable rows (budget-exceeds-pool, request req_7)",
        "  at #/budget/count",
    ]
    error = spice(*arguments, "--json").json()["error"]
    assert (error["code"], error["status"], error["request_id"]) == ("budget-exceeds-pool", 422, "req_7")


def test_no_service_is_one_line(spice: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICE_API_URL", "http://127.0.0.1:1")
    ended = spice("jobs", "list")
    assert ended.status == 1
    assert ended.err.startswith("error: no answer from the service at http://127.0.0.1:1")
    monkeypatch.setenv("SPICE_API_URL", "nonsense")
    assert spice("jobs", "list").status == 2


@pytest.mark.parametrize(("status", "expected"), [("succeeded", 0), ("failed", 1), ("cancelled", 3), ("expired", 3)])
def test_the_exit_status_says_how_the_job_ended(
    service: FlakyServer, spice: Command, status: str, expected: int
) -> None:
    state: dict[str, Any] = {"id": JOB, "status": status}
    if status == "succeeded":
        state["result"] = RESULT
    elif status == "failed":
        state["error"] = {"code": "worker-killed", "detail": "three workers died", "errors": []}
    service.states[0] = state
    ended = spice("jobs", "watch", JOB)
    assert ended.status == expected
    if status == "succeeded":
        assert "6 of 60 rows" in ended.out
        assert "at least 89.0 % of the highest utility possible" in ended.out
    if status == "failed":
        assert f"error: {JOB} failed: three workers died (worker-killed)" in ended.err
    submitted = spice("jobs", "submit", "--dataset", DATASET, "--budget", "10%", "--wait", "--json")
    assert (submitted.status, submitted.json()["status"]) == (expected, status)


def test_a_wait_that_times_out_ends_with_status_4(service: FlakyServer, spice: Command) -> None:
    service.states[0] = {"id": JOB, "status": "running", "phase": "selecting"}
    ended = spice("jobs", "watch", JOB, "--max-wait", "0.2")
    assert ended.status == 4
    assert "still running" in ended.err


def test_ctrl_c_ends_the_waiting_and_says_how_to_come_back(service: FlakyServer) -> None:
    service.states[0] = {"id": JOB, "status": "running", "phase": "selecting"}
    # A shell starts what runs in the background with SIGINT ignored, and children inherit that; a handler they do not.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "spice_select", "jobs", "watch", JOB],
            cwd=ROOT, env={**os.environ, "SPICE_API_URL": service.url}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, inherited)
    with process:
        deadline = time.monotonic() + 120
        while len(service.seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 130
    assert f"detached; {JOB} goes on. Come back with: spice-select jobs watch {JOB}" in err
    assert "Traceback" not in err
    assert not service.asked(f"POST /v1/jobs/{JOB}/cancel")


def test_progress_is_a_line_for_each_phase_where_there_is_no_terminal(service: FlakyServer, spice: Command) -> None:
    progress = {
        "phase": "computing_gradients", "completed": 310, "total": 586, "unit": "samples", "rate_per_second": 95.1,
        "eta_seconds": 2.9,
    }  # fmt: skip
    queue = {"position": 3, "ahead_in_project": 1, "reason": "waiting_for_gpu", "estimated_start_at": None}
    service.states.clear()
    service.states.extend(
        [
            {"id": JOB, "status": "queued", "phase": "waiting_for_worker", "queue": queue},
            {"id": JOB, "status": "running", "phase": "computing_gradients", "progress": progress},
            {"id": JOB, "status": "running", "phase": "selecting"},
            {"id": JOB, "status": "succeeded", "result": RESULT},
        ]
    )
    assert spice("jobs", "watch", JOB).err.splitlines() == [
        "queued: position 3, waiting_for_gpu",
        "computing_gradients: 310/586 samples, 95.1/s, 3 s left",
        "selecting",
        "succeeded",
    ]


def test_a_terminal_gets_a_bar() -> None:
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=120, color_system=None)
    with ProgressView(console=console) as view:
        view.job(Job(id=JOB, status="queued", queue=QueuePosition(position=3, reason="project_limit")))
        view.job(Job(id=JOB, status="queued", queue=QueuePosition(position=2, reason="waiting_for_gpu")))
        view.show("computing_gradients", 310, 586, "samples", rate=95.1, eta=62)
        view.show("selecting", 3, 58, "picks")
        view.end("succeeded")
    text = sink.getvalue()
    assert "queued: position 2, waiting_for_gpu" in text
    assert "310/586 samples" in text
    assert "95.1/s" in text
    assert "1 min 02 s left" in text
    assert "586/586 samples" in text, "a phase that is over stands as done"
    assert "58/58 picks" in text
    assert text.rindex("selecting") > text.rindex("computing_gradients")


def test_a_queued_job_says_where_it_stands_and_for_how_long(service: FlakyServer, spice: Command) -> None:
    for seconds, words in (
        (-5, "any moment"),
        (40, "in about 40 s"),
        (600, "in about 10 min"),
        (9000, "in about 2.5 h"),
    ):
        start = (datetime.now(UTC) + timedelta(seconds=seconds + 0.4)).isoformat()
        queue = {"position": 3, "ahead_in_project": 1, "reason": "waiting_for_gpu", "estimated_start_at": start}
        service.states[0] = {"id": JOB, "status": "queued", "priority": 7, "queue": queue}
        shown = spice("jobs", "show", JOB).out
        assert f"queue     position 3, waiting_for_gpu, starts {words}" in shown
        assert "priority  7" in shown


def test_a_run_shows_samples_tokens_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=200)
    moment = [100.0]
    monkeypatch.setattr("spice_select.cli.progress.time.monotonic", lambda: moment[0])
    with ProgressView(console=console) as view:
        view.step(RunProgress("loading_model", 0, 0, "steps", 0, 2**30))
        view.step(RunProgress("computing_gradients", 0, 100, "samples", 0, 2**30))
        moment[0] += 10.0
        view.step(RunProgress("computing_gradients", 40, 100, "samples", 6000, 3 * 2**29))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "loading_model",
        "computing_gradients: 0/100 samples",
        "computing_gradients: 40/100 samples, 4/s, 600 tokens/s, 1.5 GiB, 15 s left",
    ]


def test_submit_sends_only_what_was_given(service: FlakyServer, spice: Command) -> None:
    ended = spice(
        "jobs", "submit", "-d", DATASET, "-b", "50000 tokens", "--method", "fisher", "--proxy", "org/name",
        "--revision", "abc", "--conflict-penalty", "0.3", "--stop-ratio", "0.5", "--loss", "sum", "--seed", "9",
        "--name", "n", "--metadata", "team=search", "--deadline", "60", "--priority", "-5", "--must-include", "3,5-7",
        "--exclude", "9", "--exclude", "1", "--given-job", "job_owned",
        "--target-dataset", "ds_target", "--protect", "chat=ds_chat", "--protect-weight", "0.5", "--json",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.json()["asked"] == {
        "dataset_id": DATASET, "budget": {"tokens": 50000}, "method": "fisher",
        "proxy": {"model": "org/name", "revision": "abc"},
        "selection": {"conflict_penalty": 0.3, "stop_ratio": 0.5, "protect_weight": 0.5}, "gradients": {"loss": "sum"},
        "seed": 9, "protect": [{"name": "chat", "dataset_id": "ds_chat", "weight": 1.0}],
        "name": "n", "metadata": {"team": "search"}, "deadline_seconds": 60.0,
        "must_include": [3, 5, 6, 7], "exclude": [9, 1], "given_job": "job_owned",
        "target_dataset_id": "ds_target",
        "priority": -5,
    }  # fmt: skip


def test_submit_asks_for_the_loop_of_the_paper_and_a_warm_up(service: FlakyServer, spice: Command) -> None:
    ended = spice(
        "jobs", "submit", "-d", DATASET, "-b", "10", "--schedule", "periodic", "--steps-every", "3",
        "--window-size", "64", "--warmup-steps", "5", "--tuned-weights", "full", "--store-dtype", "float16", "--json",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.json()["asked"] == {
        "dataset_id": DATASET, "budget": {"count": 10}, "schedule": {"kind": "periodic", "steps_every": 3},
        "selection": {"scope": {"kind": "windows", "size": 64}},
        "gradients": {"warmup_steps": 5, "tuning": {"weights": "full"}, "store_dtype": "float16"},
    }  # fmt: skip
    assert spice("jobs", "submit", "-d", DATASET, "-b", "10", "--steps-every", "3").status == 2


def test_an_invalid_data_set_ends_with_status_1_and_the_row(
    service: FlakyServer, spice: Command, made: MadeResult
) -> None:
    error = {
        "code": "dataset-invalid-json",
        "detail": "line 7: invalid JSON",
        "errors": [{"detail": "x", "pointer": "#/rows/6"}],
    }
    service.states[0] = {"id": DATASET, "status": "invalid", "error": error}
    ended = spice("datasets", "push", made.source)
    assert ended.status == 1
    assert "is invalid: line 7: invalid JSON (dataset-invalid-json)" in ended.err
    assert "  #/rows/6  x" in ended.err
    service.states[0] = {"id": DATASET, "status": "ready", "num_rows": 40, "num_usable": 39, "rejected": {"no-text": 1}}
    ended = spice(
        "datasets", "push", made.source, "--column", "prompt=q", "--column", "response=a", "--format", "alpaca"
    )
    assert ended.status == 0
    assert "no-text 1" in ended.out
    assert b'{"prompt": "q", "response": "a"}' in service.asked("POST /v1/datasets")[-1].body


def test_lists_never_cut_an_id(service: FlakyServer, spice: Command) -> None:
    service.lists["/v1/jobs"] = [{"id": f"{JOB}{i}", "status": "queued", "dataset_id": DATASET} for i in range(3)]
    service.lists["/v1/datasets"] = [{"id": DATASET, "status": "ready", "name": "x" * 300}]
    service.lists[f"/v1/datasets/{DATASET}/rejected"] = [
        {"row": i, "code": "no-text", "detail": "column 'text' is empty"} for i in range(5)
    ]
    assert [line.split()[0] for line in spice("jobs", "list", "--limit", "2").out.splitlines()[1:]] == [
        f"{JOB}0", f"{JOB}1",
    ]  # fmt: skip
    assert "x" * 300 in spice("datasets", "list").out
    assert len(spice("jobs", "list", "--json").json()["data"]) == 3
    narrow = ("--metadata", "team=a", "--metadata", "run=7", "--created-after", "2026-11-01T08:00+02:00")
    for command in ("jobs", "datasets", "evaluations"):
        service.lists[f"/v1/{command}"] = []
        assert spice(command, "list", *narrow, "--created-before", "2026-12-01", "--json").json() == {"data": []}
        told = service.asked(f"GET /v1/{command}")[-1].query
        assert told["metadata"] == ["team=a", "run=7"]
        assert datetime.fromisoformat(told["created_after"][0]) == datetime(2026, 11, 1, 6, tzinfo=UTC)
        assert datetime.fromisoformat(told["created_before"][0]).tzinfo is not None
        assert spice(command, "list", "--created-after", "yesterday").status == 2
    shown = spice("datasets", "rejected", DATASET, "--limit", "3")
    assert shown.out.count("no-text") == 3
    assert "more than 3" in shown.err


def test_run_goes_the_whole_way_without_a_service(spice: Command, made: MadeResult, tmp_path: Path) -> None:
    arguments = ["run", made.source, "--budget", "10%", "-o", tmp_path / "out", "--cache", tmp_path / "cache",
                 "--sketch-dim", "16", "--seed", "5", "--json"]  # fmt: skip
    first = spice(*arguments).json()
    assert (first["selected"], first["pool"], first["gradients_reused"]) == (4, 40, False)
    assert spice(*arguments).json()["gradients_reused"]
    assert spice("verify", tmp_path / "out", "--source", made.source).status == 0
    assert spice("run", made.source, "--budget", "41", "-o", tmp_path / "none").status == 1


def test_the_light_commands_import_nothing_heavy(service: FlakyServer) -> None:
    service.lists["/v1/jobs"] = []
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'numpy', 'pyarrow', 'peft', 'safetensors'): sys.modules[name] = None\n"
        "from spice_select.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    for arguments in (["version"], ["jobs", "list"], ["pull", JOB, "-o", "x", "--format", "trl"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT, env={**os.environ, "SPICE_API_URL": service.url}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "has no files" in done.stderr if arguments[0] == "pull" else done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m spice_select run --help | head -1", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("Usage")
    assert "Traceback" not in done.stderr
