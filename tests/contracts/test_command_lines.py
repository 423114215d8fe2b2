"""Every command line of the containers starts, gets ready and ends on SIGTERM, on real servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.fixtures.processes import (
    BIN,
    ROOT,
    ApiProcess,
    CeleryWorker,
    Dispatcher,
    LaunchedProcess,
    NotReadyError,
    Service,
    environment,
    run_migrations,
)

GRACE_SECONDS = 60.0
LAST_WORDS = {
    ApiProcess: "Finished server process",
    CeleryWorker: "shutdown (MainProcess)",
    Dispatcher: "dispatcher_stopped",
    Service: "worker_stopped",
}


def health_command(target: str, process: LaunchedProcess) -> list[str]:
    """The health check of an image, aimed at a process of this test."""
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").partition(f" AS {target}\n")[2]
    found = re.search(r"^HEALTHCHECK .*\\\n\s*CMD (\[.+\])$", stage, re.MULTILINE)
    assert found
    program, *arguments = json.loads(found[1])
    if isinstance(process, ApiProcess):
        arguments = [argument.replace(":8000/", f":{process.port}/") for argument in arguments]
    else:
        arguments = [argument.replace("celery@$(hostname)", f"{process.name}@localhost") for argument in arguments]
    return [str(BIN / program) if (BIN / program).exists() else program, *arguments]


def assert_healthy(command: list[str], env: dict[str, str], seconds: float = 120.0) -> None:
    """A container is given time to begin: a worker registers once its child has loaded what it needs."""
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.5)


def ended_in_order(process: LaunchedProcess) -> bool:
    """Whether SIGTERM let it finish; uvicorn raises the signal again once it is done."""
    began = time.monotonic()
    status = process.stop(GRACE_SECONDS)
    words = process.log_text()
    return (
        status in {0, -signal.SIGTERM}
        and time.monotonic() - began < GRACE_SECONDS
        and LAST_WORDS[type(process)] in words
    )


@pytest.fixture
def env(empty_database_url: str, broker_url: str, tmp_path: Path) -> dict[str, str]:
    path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}  # as in the images
    return environment(database_url=empty_database_url, broker_url=broker_url, data_dir=tmp_path / "data", extra=path)


def test_the_processes_of_a_deployment_start_and_end_in_order(env: dict[str, str], tmp_path: Path) -> None:
    run_migrations(env)
    run_migrations(env)  # the migrate container runs again at every start
    processes: list[LaunchedProcess] = [
        ApiProcess(env, tmp_path),
        CeleryWorker(env, tmp_path, name="worker-1"),
        CeleryWorker(env, tmp_path, name="worker-2"),
        Dispatcher(env, tmp_path),
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.wait_ready()
        api = processes[0]
        assert isinstance(api, ApiProcess)
        answer = httpx.get(f"{api.url}/v1/version", trust_env=False)
        assert answer.status_code == httpx.codes.OK
        assert "server" not in answer.headers
        for target, process in (("api", api), ("worker", processes[1])):
            assert_healthy(health_command(target, process), env)
        for process in processes:
            process.send_signal(signal.SIGTERM)  # all at once, as when a host goes down
        for process in processes:
            assert ended_in_order(process), process.log_text()
    finally:
        for process in processes:
            process.stop(1)


def test_the_api_is_not_ready_before_the_migrations_ran(env: dict[str, str], tmp_path: Path) -> None:
    api = ApiProcess(env, tmp_path).start()
    try:
        deadline = time.monotonic() + api.ready_seconds
        while (answer := ready(api)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        api.stop(GRACE_SECONDS)
    assert answer is not None
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_embedded_service_needs_nothing_but_a_folder(tmp_path: Path) -> None:
    service = Service(environment(data_dir=tmp_path / "data"), tmp_path)
    with service:
        assert httpx.get(f"{service.url}/livez", trust_env=False).status_code == httpx.codes.OK
        assert ended_in_order(service), service.log_text()


def ready(api: ApiProcess) -> httpx.Response | None:
    try:
        return httpx.get(f"{api.url}/readyz", trust_env=False)
    except httpx.ConnectError:
        return None


def test_a_process_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    env = environment(data_dir=tmp_path / "data", extra={"SPICE_LEASE_SECONDS": "soon"})
    with pytest.raises(NotReadyError, match="lease_seconds"):
        Service(env, tmp_path).start().wait_ready(30)
