"""Files of the project that a request and a job run through: ``python -m benchmarks.trace_files [--list] [--json]``.

A second request and a second job are traced, so that what is loaded or built once is there: a file counts when one of
its functions is called. The API and the worker run in this process, on SQLite.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi.testclient import TestClient

from app.__main__ import migrate
from app.main import create_app
from app.settings import Settings
from workers.run_unit import UnitRunner

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = tuple(f"{ROOT / name}/" for name in ("spice_select", "app", "workers"))
ROWS = 12


class FileTracer:
    """Files of the project whose functions are called, in every thread that is begun after it.

    Attributes:
        files: Paths below the root, by their first call, and how often the trace came to each from another.
    """

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self._last = ""
        self._on = False

    def install(self) -> None:
        """Listen to the calls of this thread and of later ones."""
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    @contextmanager
    def tracing(self) -> Generator[dict[str, int]]:
        """Collect files within the block."""
        self.files, self._last, self._on = {}, "", True
        try:
            yield self.files
        finally:
            self._on = False

    def _called(self, frame: FrameType, event: str, _argument: Any) -> None:
        if not self._on or event != "call" or frame.f_code.co_name == "<module>":
            return
        path = frame.f_code.co_filename
        if path.startswith(PACKAGES) and path != self._last:
            self._last = path
            name = path[len(str(ROOT)) + 1 :]
            self.files[name] = self.files.get(name, 0) + 1


def drain(runner: UnitRunner) -> None:
    """Do every unit that can be had."""
    while (claim := runner.claim_next()) is not None:
        runner.run_claim(claim)


def measure() -> dict[str, dict[str, int]]:
    """Files of ``POST /v1/jobs``, and of a job from there to its files."""
    tracer = FileTracer()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, data_dir=Path(folder), auth="loopback", log_level="error", device="cpu")
        migrate(settings.resolved_database_url)
        tracer.install()
        runner = UnitRunner(settings, "trace", threading.Event())
        with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
            lines = [json.dumps({"instruction": f"What is {n} + {n}?", "output": f"{2 * n}."}) for n in range(ROWS)]
            sent = client.post("/v1/datasets", files={"file": ("pool.jsonl", "\n".join(lines))})
            drain(runner)

            def post(seed: int) -> str:
                body = {"dataset_id": sent.json()["id"], "budget": {"count": 3}, "seed": seed}
                answer = client.post("/v1/jobs", json={**body, "gradients": {"sketch_dim": 4, "max_length": 128}})
                assert answer.status_code == 202, answer.text
                return str(answer.json()["id"])

            def fetch(job_id: str) -> None:
                assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"
                for name in ("selected.jsonl", "ranking.parquet"):
                    assert client.get(f"/v1/jobs/{job_id}/files/{name}").status_code == 200

            def whole(seed: int) -> None:
                job_id = post(seed)
                drain(runner)
                fetch(job_id)

            whole(0)
            traced: dict[str, dict[str, int]] = {}
            steps: dict[str, Callable[[int], object]] = {"POST /v1/jobs": post, "a job from POST to its files": whole}
            for seed, (name, step) in enumerate(steps.items(), start=1):
                with tracer.tracing() as files:
                    step(seed)
                traced[name] = dict(files)
                drain(runner)
        sys.setprofile(None)
        threading.setprofile(None)
        runner.database.dispose()
    return traced


def main() -> None:
    """Print the counts, and the files with ``--list``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace_files", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the files, in the order of their first call")
    parser.add_argument("--json", action="store_true", help="one line of JSON in the end")
    arguments = parser.parse_args()
    traced = measure()
    for name, files in traced.items():
        print(f"{len(files):4} files, {sum(files.values()):6} moves from file to file: {name}")
        if arguments.list:
            print("\n".join(f"     {file}" for file in files))
    if arguments.json:
        lists = {name: list(files) for name, files in traced.items()}
        print(json.dumps({"files": {name: len(files) for name, files in lists.items()}, "lists": lists}))


if __name__ == "__main__":
    main()
