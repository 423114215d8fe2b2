"""A finished job behind API keys, for the libraries of trainers, which run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.network import OFFLINE
from tests.fixtures.service import InProcessService, finished_behind_keys


@dataclass
class Finished:
    """A job, its chosen rows in pick order as lines of JSON, and a key that may read them."""

    service: InProcessService
    job_id: str
    secret: str
    chosen: list[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}

    def file_url(self, name: str) -> str:
        return f"{self.url}/v1/jobs/{self.job_id}/files/{name}"

    def link(self, name: str, **body: Any) -> str:
        answer = self.service.http.post(f"{self.file_url(name)}/links", json=body, headers=self.headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["url"])


@pytest.fixture(scope="session")
def finished(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("trainers")
    with finished_behind_keys(_migrated_sqlite, folder, rows=40, count=12) as (service, job, secret):
        made = Finished(service, job["id"], secret, [])
        content = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl", headers=made.headers).content
        made.chosen += content.splitlines()
        yield made


Script = Callable[..., str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run lines of Python in a process with a home and caches of its own; only this machine can be reached."""

    def run(lines: str, environment: Mapping[str, str] | None = None, seconds: float = 240) -> str:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPICE_", "HF_", "NETRC"))}
        env = {
            **kept,
            **OFFLINE,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HOME": str(tmp_path),
            "HF_HOME": str(tmp_path / "hf"),
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        guard = "from tests.fixtures.network import refuse_network\nrefuse_network()\n"
        done = subprocess.run(
            [sys.executable, "-c", guard + lines],
            cwd=Path(__file__).resolve().parents[2],
            env=env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
