"""The API under load, on real PostgreSQL with 100,000 jobs: ``python -m benchmarks.service --json``.

Everything stays on this machine. Requests are written over kept connections by threads with bare sockets, so that the
client costs little; client and server share the cores, and ratios are taken within one run.
"""

from __future__ import annotations

import argparse
import json
import secrets
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import text

from app.api.pagination import encode_cursor
from app.ids import DEFAULT_PROJECT
from app.persistence.session import Database
from app.settings import Settings
from app.storage import ArtifactStore
from benchmarks.machine import describe
from tests.fixtures.databases import fresh_database, migrate
from tests.fixtures.processes import BIN, ApiProcess, environment
from tests.fixtures.servers import PostgresServer
from tests.fixtures.service import jsonl, sums

PAGE = 100
FILL = """
INSERT INTO job (id, project_id, name, dataset_id, gradient_set_id, gradients_reused, status, priority, config,
                 metadata, partial, result, created_at, started_at, finished_at, version)
SELECT 'job_00' || lpad(n::text, 24, '0'), project_id, name, dataset_id, gradient_set_id, true, 'succeeded', 0, config,
       metadata, false, '{"selected": 59, "pool": 586}'::jsonb, created_at - (n || ' seconds')::interval, created_at,
       created_at, 3
FROM job, generate_series(1, :count) AS n WHERE id = :template
"""


class ConstantProcess(ApiProcess):
    """Uvicorn as the API runs it, with one route."""

    default_name = "constant"

    def command(self) -> tuple[str, ...]:
        """Its command line."""
        return (
            "uvicorn",
            "benchmarks._constant:app",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--no-server-header",
        )


class Connection:
    """One kept connection that sends finished bytes and reads answers with a length."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        self._socket.sendall(request)
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._receive()
        head, _, rest = self._rest.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += self._receive()
        self._rest = rest[length:]
        return int(head[9:12]), rest[:length]

    def _receive(self) -> bytes:
        found = self._socket.recv(65536)
        if not found:
            raise ConnectionError("the server hung up")
        return found

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def load(ports: Sequence[int], clients: int, seconds: float, request: Callable[[int, int], bytes]) -> dict[str, Any]:
    """Send requests from several connections, spread over servers, for a time; how many were answered, and how fast."""
    waits: list[list[float]] = [[] for _ in range(clients)]
    statuses: dict[int, int] = {}
    lock = threading.Lock()
    end = time.monotonic() + seconds

    def run(client: int) -> None:
        connection, number, mine = Connection(ports[client % len(ports)]), 0, {}
        while time.monotonic() < end:
            began = time.perf_counter()
            status, _ = connection.ask(request(client, number))
            waits[client].append(time.perf_counter() - began)
            mine[status] = mine.get(status, 0) + 1
            number += 1
        connection.close()
        with lock:
            for status, count in mine.items():
                statuses[status] = statuses.get(status, 0) + count

    began = time.monotonic()
    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    found = sorted(wait for one in waits for wait in one)
    return {
        "answered": len(found),
        "per_second": round(len(found) / took, 1),
        "p50_ms": round(found[len(found) // 2] * 1000, 2),
        "p99_ms": round(found[int(len(found) * 0.99)] * 1000, 2),
        "statuses": statuses,
    }


def reading(api: ApiProcess, constant: ConstantProcess, rounds: int, seconds: float, jobs: int) -> dict[str, Any]:
    """One job, against a constant, in turns."""
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(load([constant.port], 8, seconds, lambda *_: get("/constant")))
        ours.append(
            load([api.port], 8, seconds, lambda c, n: get(f"/v1/jobs/job_00{(c * 7919 + n * 104729) % jobs + 1:024d}"))
        )
    middle = sorted(range(rounds), key=lambda i: ours[i]["per_second"] / theirs[i]["per_second"])[rounds // 2]
    mine, constant_ = ours[middle], theirs[middle]
    return {
        "ratio": round(mine["per_second"] / constant_["per_second"], 3),
        "p99_over_p50": round(mine["p99_ms"] / mine["p50_ms"], 2),
        "ours": mine,
        "constant": constant_,
        "ratios": [round(a["per_second"] / b["per_second"], 3) for a, b in zip(ours, theirs, strict=True)],
    }


def posting(
    apis: Sequence[ApiProcess], database: Database, dataset: str, clients: int, seconds: float
) -> dict[str, Any]:
    """New jobs from many clients at a time; each is then looked for in the table.

    Beside the rate, the processor seconds that a job cost in the API, and in PostgreSQL and the benchmark together.
    """
    run = secrets.token_hex(4)

    def request(client: int, number: int) -> bytes:
        body = json.dumps(
            {"dataset_id": dataset, "budget": {"count": 5}, "metadata": {"run": run, "n": f"{client}-{number}"}}
        )
        head = "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
        head += f"\r\nIdempotency-Key: {run}-{client}-{number}"
        return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    processes = [psutil.Process(api.pid) for api in apis]
    before, all_before = [sum(process.cpu_times()[:2]) for process in processes], psutil.cpu_times()
    done = load([api.port for api in apis], clients, seconds, request)
    spent = sum(sum(process.cpu_times()[:2]) for process in processes) - sum(before)
    all_spent = sum(psutil.cpu_times()[:3]) - sum(all_before[:3])
    with database.read() as session:
        rows, distinct = session.execute(
            text("SELECT count(*), count(DISTINCT metadata->>'n') FROM job WHERE metadata->>'run' = :run"), {"run": run}
        ).one()
    accepted = done["statuses"].get(202, 0)
    cost = {"api_ms": round(1000 * spent / max(1, accepted), 1)}
    cost["machine_ms"] = round(1000 * all_spent / max(1, accepted), 1)
    return {**done, "lost": accepted - distinct, "doubled": rows - distinct, **cost}


def listing(api: ApiProcess, jobs: int, rounds: int) -> dict[str, Any]:
    """The first page of a list and its thousandth, in turns."""
    deep = encode_cursor(f"job_00{jobs - 999 * PAGE + 1:024d}")
    connection = Connection(api.port)
    first, far = [], []
    for _ in range(rounds):
        for path, kept in ((f"/v1/jobs?limit={PAGE}", first), (f"/v1/jobs?limit={PAGE}&after={deep}", far)):
            began = time.perf_counter()
            status, body = connection.ask(get(path))
            kept.append(time.perf_counter() - began)
            assert status == 200
            assert len(json.loads(body)["data"]) == PAGE
    ratio = statistics.median(far) / statistics.median(first)
    return {
        "ratio": round(ratio, 2),
        "page_1_ms": round(statistics.median(first) * 1000, 1),
        "page_1000_ms": round(statistics.median(far) * 1000, 1),
    }


def memory(process: psutil.Process) -> float:
    """Resident MB."""
    return float(process.memory_info().rss) / 1e6


def downloading(api: ApiProcess, database: Database, store: ArtifactStore, rows: int) -> dict[str, Any]:
    """A result of many rows, streamed to four clients at a time, and the API's memory meanwhile."""
    job = f"job_00{1:024d}"
    with store.scratch() as folder:
        path = folder / "selected.parquet"
        table = pa.table(
            {
                "instruction": [secrets.token_hex(100) for _ in range(rows)],
                "output": [secrets.token_hex(250) for _ in range(rows)],
            }
        )
        pq.write_table(table, path, row_group_size=10_000)
        size, digest = path.stat().st_size, sha256(path.read_bytes()).hexdigest()
        store.add(DEFAULT_PROJECT, path, digest)
    with database.write() as session:
        session.execute(
            text("INSERT INTO file (job_id, name, project_id, position, media_type, bytes, sha256) VALUES "
                 "(:job, 'selected.parquet', :project, 0, 'application/vnd.apache.parquet', :size, :digest)"),
            {"job": job, "project": DEFAULT_PROJECT, "size": size, "digest": digest},
        )  # fmt: skip
    process = psutil.Process(api.pid)
    idle, most, ending = memory(process), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ending.wait(0.005):
            most = max(most, memory(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    digests: list[str] = []

    def fetch() -> None:
        found = sha256()
        with httpx.stream(
            "GET", f"{api.url}/v1/jobs/{job}/files/selected.parquet", timeout=120, trust_env=False
        ) as answer:
            for part in answer.iter_raw():
                found.update(part)
        digests.append(found.hexdigest())

    began = time.monotonic()
    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    ending.set()
    watcher.join()
    assert digests == [digest] * 4, "what came is not what was stored"
    return {
        "file_mb": round(size / 1e6, 1),
        "above_idle_mb": round(most - idle, 1),
        "idle_mb": round(idle, 1),
        "mb_per_second": round(4 * size / 1e6 / took),
    }


def importing(rounds: int) -> dict[str, Any]:
    """A fresh interpreter that imports the application."""
    code = "import sys, time; t = time.perf_counter(); import app.main; "
    code += "print(time.perf_counter() - t, 'torch' in sys.modules)"
    found = []
    for _ in range(rounds):
        words = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        assert words[1] == "False", "the API has loaded torch"
        found.append(float(words[0]))
    return {"best_s": round(min(found), 2), "median_s": round(statistics.median(found), 2)}


def listening(api: ApiProcess, dataset: str, listeners: int) -> dict[str, Any]:
    """Idle event streams, then one event that all of them wait for."""
    process = psutil.Process(api.pid)
    request = get("/v1/events").replace(b"\r\n\r\n", b"\r\nAccept: text/event-stream\r\n\r\n")
    selector = selectors.DefaultSelector()
    for _ in range(listeners):
        opened = socket.create_connection(("127.0.0.1", api.port), timeout=60)
        opened.sendall(request)
        while b"retry:" not in opened.recv(65536):
            pass
        opened.setblocking(False)
        selector.register(opened, selectors.EVENT_READ)
    time.sleep(2)
    held = memory(process)
    body = {"dataset_id": dataset, "budget": {"count": 5}}
    posted = httpx.post(f"{api.url}/v1/jobs", json=body, timeout=60, trust_env=False)
    assert posted.status_code == 202, posted.text
    wanted, answered, arrivals = posted.json()["id"].encode(), time.monotonic(), []
    waiting = listeners
    while waiting and time.monotonic() < answered + 30:
        for key, _ in selector.select(0.1):
            if wanted in key.fileobj.recv(65536):  # type: ignore[union-attr]
                arrivals.append(time.monotonic() - answered)
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                waiting -= 1
    slowest = round(max(arrivals), 2) if arrivals else None
    return {"listeners": listeners, "api_mb": round(held, 1), "told": len(arrivals), "slowest_s": slowest}


def prepare(api: ApiProcess, env: dict[str, str], database: Database, jobs: int) -> str:
    """A data set that is ready, and the jobs; the id of the data set."""
    from workers.run_unit import UnitRunner

    sent = httpx.post(f"{api.url}/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(600)))}, timeout=60).json()
    runner = UnitRunner(
        Settings(data_dir=Path(env["SPICE_DATA_DIR"]), database_url=env["SPICE_DATABASE_URL"], device="cpu"),
        "benchmark",
        threading.Event(),
    )
    claim = runner.units.claim_next(runner.owner)
    assert claim is not None
    runner.run_claim(claim)
    dataset = str(sent["id"])
    made = httpx.post(f"{api.url}/v1/jobs", json={"dataset_id": dataset, "budget": {"count": 59}}, timeout=60).json()
    with database.write() as session:
        session.execute(text(FILL), {"count": jobs, "template": made["id"]})
        session.execute(text("UPDATE job SET status = 'cancelled' WHERE id = :id"), {"id": made["id"]})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    runner.database.dispose()
    return dataset


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each stretch of load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listeners", type=int, default=500)
    parser.add_argument("--only", action="append", help="beginning of a row's name, such as POST; may be repeated")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = {} if asked.only else {"import app.main": importing(5)}
    with (
        tempfile.TemporaryDirectory() as temporary,
        PostgresServer(durable=True) as server,
        fresh_database(server.url) as url,
    ):
        migrate(url)
        folder = Path(temporary)
        env = environment(data_dir=folder / "data", database_url=url, broker_url="redis://127.0.0.1:1/0")
        database = Database(url)
        with (
            ApiProcess(env, folder) as api,
            ConstantProcess({**env, "PYTHONPATH": str(BIN.parent.parent)}, folder) as constant,
        ):
            dataset = prepare(api, env, database, asked.jobs)
            for name, measure in {
                "selected.parquet": lambda: downloading(api, database, ArtifactStore(folder / "data"), 100_000),
                "GET /v1/jobs/{id}": lambda: reading(api, constant, asked.rounds, asked.seconds, asked.jobs),
                "pages of GET /v1/jobs": lambda: listing(api, asked.jobs, 20),
                "idle listeners": lambda: listening(api, dataset, asked.listeners),
                "POST /v1/jobs": lambda: posting([api], database, dataset, 32, asked.seconds),
            }.items():
                if asked.only and not any(name.startswith(only) for only in asked.only):
                    continue
                found[name] = measure()
                print(f"{name:<24} {found[name]}", flush=True)
            if not asked.only or "POST" in asked.only:
                with ApiProcess(env, folder, name="api-2") as second:
                    found["POST, two processes"] = posting([api, second], database, dataset, 32, asked.seconds)
                print(f"POST, two processes      {found['POST, two processes']}", flush=True)
        database.dispose()
    if asked.json:
        print(json.dumps({"benchmark": "service", "machine": describe(), "jobs": asked.jobs, "rows": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
