"""What a user gets who has pip and no clone: the wheel, installed in empty environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.contracts.packages import ROOT
from tests.fixtures.servers import free_port

pytestmark = pytest.mark.soak
MINUTES = 60.0
CLEAN = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=CLEAN | variables,
        capture_output=True,
        text=True,
        timeout=9 * MINUTES,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("spice_select-*.whl"))


def environment(folder: Path, wheel: Path, extras: str) -> Path:
    """A fresh environment with the wheel and these extras at the pinned versions; its folder of commands."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(folder / "bin" / "pip", "install", "--quiet", *constraints, f"{wheel}{extras}", cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_everything_that_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("spice_select", "app", "workers", "migrations"):
        here = {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert not here - names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]


def test_the_base_install_is_client_and_command(wheel: Path, tmp_path: Path) -> None:
    commands = environment(tmp_path / "venv", wheel, "")
    assert run(commands / "spice-select", "version", cwd=tmp_path).stdout.strip()
    run(commands / "python", "-c", "import spice_select.client", cwd=tmp_path)
    refused = subprocess.run(
        [str(commands / "spice-select"), "serve"], cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "pip install 'spice-select[server]'" in refused.stderr


def test_from_an_empty_folder_to_a_verified_result(wheel: Path, tmp_path: Path) -> None:
    """Server and compute, as README says: serve, send a file, wait, pull, verify."""
    commands = environment(tmp_path / "venv", wheel, "[server,compute]")
    rows = [{"prompt": f"What is {i} + {i}?", "completion": f"{i} + {i} is {2 * i}."} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = subprocess.Popen(
        [str(commands / "spice-select"), "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")],
        cwd=tmp_path,
        env=CLEAN,
    )

    def command(*arguments: str) -> str:
        return run(commands / "spice-select", *arguments, cwd=tmp_path, SPICE_API_URL=url).stdout

    try:
        wait_until_ready(url, service)
        dataset = json.loads(command("datasets", "push", "rows.jsonl", "--json").splitlines()[-1])
        submit = ("jobs", "submit", "--dataset", dataset["id"], "--budget", "10%", "--wait", "--json")
        job = json.loads(command(*submit).splitlines()[-1])
        command("pull", job["id"], "-o", "result")
        command("verify", "result")
        assert len((tmp_path / "result" / "selected.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    finally:
        service.terminate()
        service.wait(MINUTES)


def wait_until_ready(url: str, service: subprocess.Popen[bytes], seconds: float = 3 * MINUTES) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert service.poll() is None, "the service ended"
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    pytest.fail(f"the service was not ready in {seconds} s")
