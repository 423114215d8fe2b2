"""Clients that never give up: a POST is repeated with its key until it is answered, and each answer is written down."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from tests.fixtures.service import jsonl, sums

ACCEPTED = 202


@dataclass
class Accepted:
    """A job as the client knows it."""

    key: str
    asked: dict[str, Any]
    ids: set[str] = field(default_factory=set)
    cancelled: bool = False

    @property
    def question(self) -> str:
        """What was asked for, as text: the same question must get the same bytes."""
        return json.dumps(self.asked, sort_keys=True)


class Clients:
    """Submits jobs from threads while the service is under fire.

    Args:
        url: Of the API.
        seed: For what is asked.
        threads: Number of clients.
        most: Jobs that may be open at once, so that the queue stays short and each fault meets running work.
    """

    def __init__(self, url: str, seed: int, *, threads: int = 2, most: int = 6) -> None:
        self.seed, self.threads, self.most = seed, threads, most
        self.http = httpx.Client(base_url=url, timeout=6, trust_env=False)
        self.history: list[Accepted] = []
        self.repeats = self.refused = 0
        self.datasets: list[str] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._running: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def push(self, count: int = 4, rows: int = 60) -> None:
        """Send data sets of different sizes and wait until they are ready."""
        for number in range(count):
            data = jsonl(sums(rows * (number + 1), start=1000 * number))
            made = self.http.post("/v1/datasets", files={"file": ("pool.jsonl", data)}).raise_for_status()
            self.datasets.append(made.json()["id"])
        for dataset in self.datasets:
            while self.http.get(f"/v1/datasets/{dataset}").raise_for_status().json()["status"] == "validating":
                time.sleep(0.1)

    def start(self) -> None:
        """Begin to submit."""
        for number in range(self.threads):
            thread = threading.Thread(target=self._submit_all, args=(random.Random(f"{self.seed}/{number}"),))
            thread.start()
            self._running.append(thread)

    def stop(self) -> None:
        """End submitting; a request that waits for its answer goes on until it has one."""
        self._end.set()
        for thread in self._running:
            thread.join()

    def _submit_all(self, generator: random.Random) -> None:
        while not self._end.is_set():
            if self._open() < self.most:
                self.submit(self.ask(generator), f"{generator.getrandbits(64):016x}")
            self._end.wait(0.3)

    def ask(self, generator: random.Random) -> dict[str, Any]:
        """A question out of few, so that some are asked again and share their gradients."""
        return {
            "dataset_id": generator.choice(self.datasets),
            "budget": {"count": generator.choice([3, 7])},
            "gradients": {"sketch_dim": 4, "max_length": 128, "seed": generator.randrange(40)},
        }

    def submit(self, asked: dict[str, Any], key: str) -> Accepted:
        """POST until it is accepted, then once more, as a client does whose answer was lost."""
        job = Accepted(key, asked)
        job.ids.add(self._post(job))
        with self._lock:
            self.history.append(job)
        again = self._post(job)
        with self._lock:
            job.ids.add(again)
        return job

    def adopt(self, asked: dict[str, Any], key: str, job_id: str) -> None:
        """Take a job into the history that somebody else has submitted."""
        with self._lock:
            self.history.append(Accepted(key, asked, {job_id}))

    def storm(self, generator: random.Random, parallel: int) -> None:
        """Many POSTs with one key at the same moment."""
        job = Accepted(f"{generator.getrandbits(64):016x}", self.ask(generator))
        with ThreadPoolExecutor(parallel) as pool:
            job.ids |= set(pool.map(lambda _: self._post(job), range(parallel)))
        with self._lock:
            self.history.append(job)

    def cancel_one(self, generator: random.Random) -> None:
        """Cancel a job that is probably running; a lost answer counts as asked."""
        with self._lock:
            job = generator.choice(self.history[-4:]) if self.history else None
        if job is not None:
            job.cancelled = True
            try:
                self.http.post(f"/v1/jobs/{min(job.ids)}/cancel")
            except httpx.HTTPError:
                self.refused += 1

    def _post(self, job: Accepted) -> str:
        while True:
            try:
                answer = self.http.post("/v1/jobs", json=job.asked, headers={"Idempotency-Key": job.key})
            except httpx.HTTPError:
                self.repeats += 1
                time.sleep(0.2)
                continue
            if answer.status_code == ACCEPTED:
                return str(answer.json()["id"])
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            self.refused += 1
            time.sleep(0.2)

    def _open(self) -> int:
        with self._lock:
            recent = self.history[-2 * self.most :]
        states = [self.peek(job_id) for job in recent for job_id in sorted(job.ids)[:1]]
        return sum(state in {None, "queued", "running", "cancelling"} for state in states)

    def peek(self, job_id: str) -> str | None:
        """State of a job, or None when nobody answers."""
        try:
            answer = self.http.get(f"/v1/jobs/{job_id}")
        except httpx.HTTPError:
            return None
        return str(answer.json()["status"]) if answer.status_code == httpx.codes.OK else None

    def result(self, job_id: str) -> dict[str, str]:
        """Digest of each file of a result, of the bytes received and not of what the list claims."""
        files = self._read(f"/v1/jobs/{job_id}/files").json()["data"]
        digests = {}
        for file in files:
            content = self._read(f"/v1/jobs/{job_id}/files/{file['name']}").content
            digests[file["name"]] = hashlib.sha256(content).hexdigest()
            if digests[file["name"]] != file["sha256"]:
                digests[file["name"]] = f"not {file['sha256']}"
        return digests

    def _read(self, path: str) -> httpx.Response:
        """An answer of a healed service, however slow its machine: one that is late is not a wrong one."""
        for _ in range(10):
            with suppress(httpx.TimeoutException):
                return self.http.get(path).raise_for_status()
        return self.http.get(path).raise_for_status()
