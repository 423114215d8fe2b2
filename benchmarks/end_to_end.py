"""A real file through the real service over HTTP: wall time per phase, peak memory, what was chosen per group.

    python -m benchmarks.end_to_end --file pool.jsonl.gz --deployment celery --workers 2 --group domain --json
    python -m benchmarks.end_to_end --file chat.jsonl.gz --deployment embedded --json

``celery`` starts PostgreSQL, a Redis-protocol server, API, dispatcher and Celery workers, each as its own process;
``embedded`` starts ``python -m app``. Everything is ended afterwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.machine import describe
from spice_select.client import Client
from tests.fixtures.databases import fresh_database, migrate
from tests.fixtures.processes import ApiProcess, CeleryWorker, Dispatcher, LaunchedProcess, Service, environment
from tests.fixtures.servers import PostgresServer, RedisServer

SAMPLE_SECONDS = 0.25


class PeakMemory:
    """Largest resident memory of some process trees, sampled.

    Args:
        roots: Name to process id.
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self.roots = roots
        self.peak: Counter[str] = Counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            for name, pid in self.roots.items():
                self.peak[name] = max(self.peak[name], _resident(pid))


def _resident(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        return 0
    return total


def _processor_seconds(pid: int) -> float | None:
    """Of a process and of the children that it has or had; None where it is gone."""
    try:
        root = psutil.Process(pid)
        ended = root.cpu_times()
        times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    except psutil.Error:
        return None
    seconds = sum(one.user + one.system for one in times)
    return round(seconds + ended.children_user + ended.children_system, 1)


def _stored_mib(data: Path) -> dict[str, float]:
    """What lies in the data folder: the embedded service's database, and everything else."""
    sizes = {True: 0, False: 0}
    for path in data.rglob("*"):
        if path.is_file():
            sizes[".db" in path.name or "sqlite" in path.name] += path.stat().st_size
    return {"database": round(sizes[True] / 2**20, 2), "files": round(sizes[False] / 2**20, 2)}


@contextmanager
def deployment(kind: str, workers: int, folder: Path, threads: str) -> Generator[tuple[str, dict[str, int]]]:
    """Start the service; its address and the process ids to watch."""
    extra = {"OMP_NUM_THREADS": threads}
    with ExitStack() as stack:
        if kind == "embedded":
            service = stack.enter_context(Service(environment(data_dir=folder / "data", extra=extra), folder / "logs"))
            yield service.url, {"service": service.pid}
            return
        postgres = stack.enter_context(PostgresServer())
        broker = stack.enter_context(RedisServer())
        url = stack.enter_context(fresh_database(postgres.url))
        migrate(url)
        env = environment(data_dir=folder / "data", database_url=url, broker_url=broker.url, extra=extra)
        api = stack.enter_context(ApiProcess(env, folder / "logs"))
        started: list[LaunchedProcess] = [api, stack.enter_context(Dispatcher(env, folder / "logs"))]
        for number in range(workers):
            started.append(stack.enter_context(CeleryWorker(env, folder / "logs", name=f"worker-{number}")))
        yield api.url, {process.name: process.pid for process in started}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one file through and collect the figures."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        url, pids = stack.enter_context(
            deployment(arguments.deployment, arguments.workers, folder, str(arguments.threads))
        )
        memory = stack.enter_context(PeakMemory(pids))
        client = stack.enter_context(Client(url))
        began = time.monotonic()
        dataset = client.datasets.push(arguments.file)
        uploaded = time.monotonic()
        dataset = client.datasets.wait(dataset.id)
        validated = time.monotonic()
        body = {"dataset_id": dataset.id, "budget": {"fraction": arguments.fraction}}
        job_id = httpx.post(f"{url}/v1/jobs", json=body, trust_env=False).raise_for_status().json()["id"]
        job = client.jobs.wait(job_id)
        finished = time.monotonic()
        raw = httpx.get(f"{url}/v1/jobs/{job_id}", trust_env=False).json()
        assert raw["status"] == "succeeded", raw
        again = {**body, "budget": {"fraction": arguments.fraction / 2}}
        second_began = time.monotonic()
        second_id = httpx.post(f"{url}/v1/jobs", json=again, trust_env=False).raise_for_status().json()["id"]
        client.jobs.wait(second_id)
        second = time.monotonic() - second_began
        lines = httpx.get(
            f"{url}/v1/jobs/{job_id}/files/selected.jsonl", trust_env=False, timeout=120
        ).text.splitlines()
        groups = Counter(str(json.loads(line).get(arguments.group)) for line in lines) if arguments.group else None
        pool = _pool_groups(url, dataset.id, arguments.group) if arguments.group else None
        return {
            "machine": describe(),
            "file": Path(arguments.file).name,
            "deployment": arguments.deployment,
            "workers": arguments.workers if arguments.deployment == "celery" else 1,
            "threads_per_worker": arguments.threads,
            "rows": raw["result"]["pool"],
            "tokens": raw["result"]["tokens_pool"],
            "seconds": {
                "upload": round(uploaded - began, 2),
                "validate": round(validated - uploaded, 2),
                **raw["result"]["seconds"],
                "job": round(finished - validated, 2),
                "second_job_reusing_gradients": round(second, 2),
                "all": round(finished - began, 2),
            },
            "processor_seconds": {name: _processor_seconds(pid) for name, pid in pids.items()},
            "stored_mib": _stored_mib(folder / "data"),
            "units": raw.get("units"),
            "peak_mib": {name: round(peak / 2**20) for name, peak in memory.peak.items()},
            "selected": raw["result"]["selected"],
            "tokens_selected": raw["result"]["tokens_selected"],
            "truncated": raw["result"]["truncated"],
            "utility": raw["result"]["utility"],
            "random_control": raw["result"]["random_control"],
            "certificate_ratio": raw["result"]["certificate"]["ratio"],
            "selected_by_group": groups,
            "pool_by_group": pool,
            "status": job.status,
        }


def _pool_groups(url: str, dataset_id: str, group: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    path: str | None = f"{url}/v1/datasets/{dataset_id}/rows?limit=1000"
    while path:
        response = httpx.get(path, trust_env=False, timeout=120).raise_for_status()
        counts.update(str(row["record"].get(group)) for row in response.json()["data"])
        path = response.links.get("next", {}).get("url")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("examples/bundled.jsonl"))
    parser.add_argument("--deployment", choices=["embedded", "celery"], default="embedded")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each worker")
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--group", default=None, help="column to count the choice by")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    found = measure(arguments)
    for key, value in found.items():
        print(f"{key:28} {value}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
