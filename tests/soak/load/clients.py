"""Clients that mix what people and platforms do, and give nothing a second try: an error is an error."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from tests.fixtures.service import jsonl, sums

ENDED = {"succeeded", "failed", "cancelled", "expired"}
CHOICES = (("submit", 2), ("poll", 8), ("list", 3), ("stream", 2), ("download", 3), ("wait", 2))


@dataclass
class Tally:
    """What the clients saw together.

    Attributes:
        seconds: Times of the answers, by kind of request.
        errors: Each request that did not get the answer it should, in a sentence.
        jobs: Ids of accepted jobs.
        done: Ids of those seen to have ended, with their state.
        resumed: Streams that ended in order before the job did, and went on with ``Last-Event-ID``.
        bytes: Received by downloads, each checked against its digest.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    bytes: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Answered requests by kind."""
        return Counter({kind: len(times) for kind, times in self.seconds.items()})


class Load:
    """Threads that ask until they are stopped.

    Args:
        url: Of the balancer.
        seed: For what is asked, and when.
        threads: Number of clients.
        pause: Longest pause of a client between two requests, in seconds.
        most: Jobs that may be open at once.
    """

    def __init__(self, url: str, seed: int, *, threads: int, pause: float, most: int = 8) -> None:
        self.url, self.seed, self.threads, self.pause, self.most = url, seed, threads, pause, most
        self.tally = Tally()
        self.datasets: list[str] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._running: list[threading.Thread] = []

    def push(self, count: int = 3, rows: int = 60) -> None:
        """Send data sets and wait until they are ready."""
        with self._http() as http:
            for number in range(count):
                data = jsonl(sums(rows * (number + 1), start=1000 * number))
                made = http.post("/v1/datasets", files={"file": ("pool.jsonl", data)}).raise_for_status().json()
                self.datasets.append(made["id"])
            for dataset in self.datasets:
                while http.get(f"/v1/datasets/{dataset}").raise_for_status().json()["status"] == "validating":
                    time.sleep(0.1)

    def __enter__(self) -> Self:
        for number in range(self.threads):
            thread = threading.Thread(target=self._ask_on, args=(random.Random(f"{self.seed}/{number}"),))
            thread.start()
            self._running.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._running:
            thread.join()

    def settle(self, seconds: float) -> list[str]:
        """Wait for the accepted jobs; returns those that have not ended by then."""
        deadline = time.monotonic() + seconds
        with self._http() as http:
            while open_jobs := [job for job in self.tally.jobs if job not in self.tally.done]:
                for job in open_jobs:
                    self._note(http.get(f"/v1/jobs/{job}").raise_for_status().json())
                if time.monotonic() > deadline:
                    return [job for job in open_jobs if job not in self.tally.done]
                time.sleep(0.2)
        return []

    def _http(self) -> httpx.Client:
        # One connection for each request, as from a proxy that keeps none: the balancer decides about each anew.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, limits=limits)

    def _ask_on(self, generator: random.Random) -> None:
        kinds, weights = zip(*CHOICES, strict=True)
        acts: dict[str, Callable[[httpx.Client, random.Random], None]] = {
            "submit": self._submit, "poll": self._poll, "list": self._list,
            "stream": self._stream, "download": self._download, "wait": self._wait,
        }  # fmt: skip
        with self._http() as http:
            while not self._end.wait(generator.uniform(0, self.pause)):
                kind = generator.choices(kinds, weights)[0]
                try:
                    acts[kind](http, generator)
                except (httpx.HTTPError, AssertionError, KeyError, ValueError) as error:
                    self.tally.errors.append(f"{kind}: {type(error).__name__}: {error}")

    def _timed(self, kind: str, call: Callable[[], httpx.Response], expected: int = 200) -> httpx.Response:
        started = time.monotonic()
        answer = call()
        assert answer.status_code == expected, f"{answer.status_code} {answer.text[:300]}"
        self.tally.seconds[kind].append(time.monotonic() - started)
        return answer

    def _note(self, job: dict[str, Any]) -> None:
        if job["status"] in ENDED:
            self.tally.done[job["id"]] = job["status"]

    def _any(self, generator: random.Random, done: bool = False) -> str | None:
        jobs = (
            [job for job, state in list(self.tally.done.items()) if state == "succeeded"] if done else self.tally.jobs
        )
        return generator.choice(jobs[-20:]) if jobs else None

    def _submit(self, http: httpx.Client, generator: random.Random) -> None:
        with self._lock:
            if len(self.tally.jobs) - len(self.tally.done) >= self.most:
                return
            asked = {
                "dataset_id": generator.choice(self.datasets),
                "budget": {"count": generator.choice([3, 7])},
                "gradients": {"sketch_dim": 4, "max_length": 128, "seed": generator.randrange(10_000)},
            }
            key = {"Idempotency-Key": f"{generator.getrandbits(64):016x}"}
            answer = self._timed("submit", lambda: http.post("/v1/jobs", json=asked, headers=key), 202)
            self.tally.jobs.append(str(answer.json()["id"]))

    def _poll(self, http: httpx.Client, generator: random.Random) -> None:
        if (job := self._any(generator)) is not None:
            self._note(self._timed("poll", lambda: http.get(f"/v1/jobs/{job}")).json())

    def _wait(self, http: httpx.Client, generator: random.Random) -> None:
        if (job := self._any(generator)) is not None:
            self._note(self._timed("wait", lambda: http.get(f"/v1/jobs/{job}", params={"wait": 3})).json())

    def _list(self, http: httpx.Client, generator: random.Random) -> None:
        for job in self._timed("list", lambda: http.get("/v1/jobs", params={"limit": 20})).json()["data"]:
            self._note(job)

    def _download(self, http: httpx.Client, generator: random.Random) -> None:
        if (job := self._any(generator, done=True)) is None:
            return
        files = self._timed("files", lambda: http.get(f"/v1/jobs/{job}/files")).json()["data"]
        file = generator.choice(files)
        content = self._timed("download", lambda: http.get(f"/v1/jobs/{job}/files/{file['name']}")).content
        assert hashlib.sha256(content).hexdigest() == file["sha256"], f"other bytes: {file['name']} of {job}"
        self.tally.bytes += len(content)

    def _stream(self, http: httpx.Client, generator: random.Random) -> None:
        """Follow a job to its end, over as many streams as it takes; numbers must rise and nothing come twice."""
        if (job := self._any(generator)) is None:
            return
        last, started = "0", time.monotonic()
        while not self._end.is_set():
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            with http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    break
                assert answer.status_code == httpx.codes.OK, answer.status_code
                kind = ""
                for line in answer.iter_lines():
                    if line.startswith("event:"):
                        kind = line.partition(":")[2].strip()
                    elif line.startswith("id:"):
                        number = line.partition(":")[2].strip()
                        assert int(number) >= int(last), f"event {number} after {last}"
                        last = number
                    if self._end.is_set():
                        return
            if kind.removeprefix("job.") in ENDED:
                break
            self.tally.resumed += 1
        self.tally.seconds["stream"].append(time.monotonic() - started)
