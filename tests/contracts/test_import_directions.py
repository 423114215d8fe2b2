"""The import contracts of pyproject.toml hold, and each of them notices a break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.packages import ROOT

LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"
BREAKS = {
    "workers > app > spice_select": ("spice_select/config.py", "from app.status import JobStatus"),
    "Inside app": ("app/services/jobs/service.py", "from app.api import schemas"),
    "app never reaches torch": ("app/status.py", "import numpy"),
    "workers never reach app.api": ("workers/__init__.py", "import fastapi"),
    "Only workers.celery_app and workers.celery_tasks know Celery": ("workers/device.py", "import celery"),
    "Routes run no queries": ("app/api/deps.py", "from app.persistence.repositories import Jobs"),
    "The mathematics reads no file": ("spice_select/selection/logdet.py", "import pathlib"),
    "Inside the library": ("spice_select/storage/shards.py", "import spice_select.pipeline.run"),
    "client, config, errors and records": ("spice_select/errors.py", "import numpy"),
}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_contract_holds() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_notices_a_break(tmp_path: Path) -> None:
    """All breaks are planted at once: a run costs seconds."""
    for package in ("spice_select", "app", "workers"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in BREAKS.values():
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line.split(" (")[0].rstrip() for line in done.stdout.splitlines()]  # "(1 ignored import)" may follow
    verdicts = [line for line in lines if line.endswith(("KEPT", "BROKEN"))]
    assert len(verdicts) == len(BREAKS)
    for contract in BREAKS:
        verdict = next((line for line in verdicts if line.startswith(contract)), "")
        assert verdict.endswith("BROKEN"), f"{contract}: {verdict or 'no such contract'}"


@pytest.mark.parametrize("file", [file for file, _ in BREAKS.values()])
def test_the_files_that_breaks_are_planted_in_are_there(file: str) -> None:
    assert (ROOT / file).is_file()
