"""The whole way in one command: start the embedded service, select a tenth of the bundled rows for a target, check it.

``make demo``, or ``python -m examples.demo``. The files of the result land in ``./demo-output``; the last line of
standard output is one JSON object: job_id, status, selected, pool, files.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess  # ruff: ignore[suspicious-subprocess-import] - starts our own service, no shell
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import httpx

from spice_select.cli.output import print_fields, print_table, shown
from spice_select.cli.progress import ProgressView
from spice_select.client import Client, Dataset, Job, RankedSample
from spice_select.errors import SpiceError
from spice_select.results.verify import verify_folder

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "examples" / "bundled.jsonl"
TARGET = ROOT / "examples" / "target.jsonl"
"""Rows of what a model should get better at, thirty in three groups; none of them is among the bundled rows."""
OUTPUT = Path("demo-output")
READY_SECONDS = 120.0
END_SECONDS = 30.0
LOG_LINES = 40
LABEL, GROUP = "label", "group"
"""Columns of the bundled rows: what was planted, and what the question is about."""


class DemoError(Exception):
    """Something did not go as it should; the message says what."""


@contextmanager
def embedded_service(folder: Path, log: Path) -> Generator[str]:
    """The embedded service in a process of its own, ended with the block.

    Args:
        folder: Its data.
        log: Where it writes what it says.

    Yields:
        Its address.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port), "--data-dir", str(folder)]
    # Settings of a developer's own service must not leak into the demo's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPICE_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(  # ruff: ignore[subprocess-without-shell-equals-true] - our own interpreter and module
            command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_ready(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the service answers that it is ready.

    Args:
        url: Its address.
        process: Its process.

    Raises:
        DemoError: It ended, or took too long.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the service ended with status {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise DemoError(f"the service was not ready after {READY_SECONDS:g} s")


def reason(resource: Dataset | Job) -> str:
    """Why a data set is invalid or a job failed."""
    return (resource.error.detail if resource.error is not None else None) or "no reason given"


def targets() -> list[dict[str, Any]]:
    """The target rows, one target for each group."""
    rows = [json.loads(line) for line in TARGET.read_text(encoding="utf-8").splitlines()]
    groups = sorted({row[GROUP] for row in rows})
    return [{"name": group, "rows": [row for row in rows if row[GROUP] == group]} for group in groups]


def select(client: Client) -> tuple[Job, list[RankedSample]]:
    """Register the bundled data set and select a tenth of it for the target.

    Args:
        client: The service.

    Raises:
        DemoError: The data set is invalid or the job did not succeed.
    """
    with ProgressView() as view:
        dataset = client.datasets.push(BUNDLED)
        dataset = client.datasets.wait(dataset.id, on_progress=view.dataset)
        if dataset.status != "ready":
            raise DemoError(f"the bundled data set is {dataset.status}: {reason(dataset)}")
        job = client.jobs.submit(dataset.id, "10%", name="demo", targets=targets())
        job = client.jobs.wait(job.id, on_progress=view.job)
    if job.status != "succeeded" or job.result is None:
        raise DemoError(f"the job {job.status}: {reason(job)}")
    return job, list(client.jobs.selection(job.id))


def report(job: Job, picks: list[RankedSample]) -> None:
    """Print what was selected, for a person.

    Args:
        job: The finished job.
        picks: Its ranking.
    """
    result = job.result
    assert result is not None, "a job that succeeded has a result"
    certificate, control = result.certificate, result.random_control
    print()
    print_fields(
        {
            "picks": f"{result.selected} of {result.pool} rows",
            "tokens kept": f"{result.tokens_selected} of {result.tokens_pool}",
            "utility": f"{shown(result.utility)} nats; as many rows at random: {shown(control and control.utility)}",
            "gain": f"{shown(result.first_gain)} nats for the first pick, {shown(result.last_gain)} for the last",
            "conflict": f"{shown(result.mean_conflict)} on average, "
            f"{shown(max((pick.conflict for pick in picks), default=None))} at most",
            "certificate": f"at least {100 * certificate.ratio:.1f} % of the best possible utility, proven"
            if certificate is not None and certificate.ratio is not None
            else None,
            "seconds": ", ".join(f"{name} {shown(seconds)}" for name, seconds in result.seconds.items()),
        }
    )
    rows = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    for column, title in ((LABEL, "PLANTED"), (GROUP, "GROUP")):
        values = [row.get(column) for row in rows]
        pool, selected = Counter(values), Counter(values[pick.source_row] for pick in picks)
        print()
        print_table(
            [title, "IN THE POOL", "SELECTED", "SHARE OF POOL", "SHARE OF SELECTION"],
            [
                [
                    value,
                    count,
                    selected[value],
                    f"{100 * count / len(rows):.1f} %",
                    f"{100 * selected[value] / len(picks):.1f} %",
                ]
                for value, count in pool.most_common()
            ],
        )
    print()


def fetch(client: Client, job: Job) -> dict[str, Path]:
    """Fetch every file of the result and check all of it, against the source too.

    Args:
        client: The service.
        job: The finished job.

    Raises:
        DemoError: A check does not hold.
    """
    files = client.jobs.download(job.id, OUTPUT)
    checked = verify_folder(OUTPUT, BUNDLED)
    for check in checked.checks:
        print(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.detail}")
    if not checked.ok:
        raise DemoError(f"the files in {OUTPUT} do not verify")
    return files


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Let SIGTERM end the service too.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo; the exit status."""
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="spice-demo-") as scratch:
        log = Path(scratch) / "service.log"
        try:
            with embedded_service(Path(scratch) / "data", log) as url, Client(url) as client:
                print(f"embedded service on {url}")
                job, picks = select(client)
                files = fetch(client, job)
        except (DemoError, SpiceError, OSError) as error:
            print(f"demo failed: {error}", file=sys.stderr)
            if log.exists():
                tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
                print("\n".join(["the last the service said:", *tail]), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("demo interrupted", file=sys.stderr)
            return 130
    report(job, picks)
    assert job.result is not None, "a job that succeeded has a result"
    summary = {
        "job_id": job.id,
        "status": job.status,
        "selected": job.result.selected,
        "pool": job.result.pool,
        "files": {name: str(path) for name, path in files.items()},
    }
    print(json.dumps(summary), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
