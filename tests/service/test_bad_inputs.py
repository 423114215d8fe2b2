"""The 78 bad inputs, each number exactly once: requests are made here, files and addresses where the table says.

Where the answer is another than the first draft of the list asked for, the row says why. After each request the
service still answers.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ids import DEFAULT_PROJECT
from app.services.access.keys import KeyService, new_secret
from tests.contracts.packages import ROOT
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.service.test_bad_files import FILES

NO_JOB = "job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC"
SMALL = {"sketch_dim": 4, "max_length": 128}


@dataclass
class World:
    """A service with a data set of 12 rows, the same service behind keys, and a key of each of two projects."""

    service: InProcessService
    locked: InProcessService
    dataset_id: str
    secrets: dict[str, str]

    def post(self, body: bytes, **headers: str) -> httpx.Response:
        """A body as it stands to ``POST /v1/jobs``."""
        return self.service.http.post("/v1/jobs", content=body, headers={"content-type": "application/json", **headers})

    def submit(self, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
        """A good job but for the changes."""
        body = {"dataset_id": self.dataset_id, "budget": {"count": 2}, "gradients": SMALL, **changes}
        return self.service.http.post("/v1/jobs", json=body, headers=headers)

    def get(self, path: str) -> httpx.Response:
        return self.service.http.get(path)

    def ask(self, path: str, secret: str | None = None) -> httpx.Response:
        """A request to the service behind keys."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return self.locked.http.get(path, headers=headers)


@pytest.fixture(scope="module")
def world(shared_service: InProcessService) -> Iterator[World]:
    dataset = shared_service.push(jsonl(sums(12)))
    database_url = shared_service.settings.resolved_database_url
    keys = KeyService(shared_service.runner.database)
    project = keys.create_project("other")
    secrets = {
        "own": keys.create(DEFAULT_PROJECT, "own")[1],
        "other": keys.create(project.id, "other")[1],
    }
    revoked, secrets["revoked"] = keys.create(DEFAULT_PROJECT, "revoked")
    keys.revoke(DEFAULT_PROJECT, revoked.id)
    with InProcessService(database_url, shared_service.settings.data_dir, auth="keys") as locked:
        yield World(shared_service, locked, dataset["id"], secrets)


def chunks(size: int) -> Iterator[bytes]:
    """A body of unannounced length."""
    yield b'{"name":"'
    for _ in range(size // 2**16):
        yield b"x" * 2**16


def reused(world: World) -> httpx.Response:
    key = {"Idempotency-Key": "bad-input-35"}
    first = world.submit(key)
    assert first.status_code == 202
    world.service.http.post(f"/v1/jobs/{first.json()['id']}/cancel")
    return world.submit(key, budget={"count": 3})


def kept_as_text(world: World) -> httpx.Response:
    name = "'; DROP TABLE job; -- {{7*7}} ${7*7} <script>alert(1)</script>"
    response = world.submit(name=name)
    assert response.json()["name"] == name
    page = world.get(f"/ui/jobs/{response.json()['id']}")
    assert "<script>alert(1)</script>" not in page.text
    world.service.http.post(f"/v1/jobs/{response.json()['id']}/cancel")
    return response


def stalled(world: World) -> httpx.Response:
    """A body that never comes in full: it costs one connection, and nobody else waits for it."""
    request = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", world.service.port)) as wire:
        wire.sendall(request)
        return world.get("/v1/jobs")


BAD, WRONG, TOO_LARGE, MEDIA = (
    (400, "malformed-request"), (422, "validation-error"), (413, "payload-too-large"), (415, "unsupported-media-type")
)  # fmt: skip
STRANGER = (401, "unauthenticated")

REQUESTS: list[tuple[str, Callable[[World], httpx.Response], int, str | None]] = [
    ("1 empty body", lambda w: w.post(b""), *WRONG),
    # 400, not 422: nothing was read that could be valid or not.
    ("2 half an object", lambda w: w.post(b"{"), *BAD),
    ("3 an array", lambda w: w.post(b"[]"), *WRONG),
    ("4 another content type", lambda w: w.post(b"{}", **{"content-type": "text/plain"}), *MEDIA),
    ("5 gzip", lambda w: w.post(b"\x1f\x8b", **{"content-encoding": "gzip"}), *MEDIA),
    ("6 not UTF-8", lambda w: w.post(b'{"name":"\xff\xfe"}'), *BAD),
    ("7 UTF-16", lambda w: w.post('{"name":"ä"}'.encode("utf-16")), *BAD),
    ("8 NaN", lambda w: w.post(b'{"budget":{"fraction":NaN}}'), *WRONG),
    ("9 Infinity", lambda w: w.post(b'{"budget":{"fraction":Infinity}}'), *WRONG),
    ("10 1e999", lambda w: w.post(b'{"budget":{"fraction":1e999}}'), *WRONG),
    ("11 half a surrogate pair", lambda w: w.post(b'{"dataset_id":"\\ud800"}'), *WRONG),
    ("12 NUL in a name", lambda w: w.submit(name="a\0b"), *WRONG),
    ("12 NUL in metadata", lambda w: w.submit(metadata={"a": "b\0"}), *WRONG),
    ("13 budget 0", lambda w: w.submit(budget={"count": 0}), *WRONG),
    ("13 budget -1", lambda w: w.submit(budget={"count": -1}), *WRONG),
    ("14 budget 2^31", lambda w: w.submit(budget={"count": 2**31}), *WRONG),
    ("15 budget 10^400", lambda w: w.post(b'{"budget":{"count":1' + b"0" * 400 + b"}}"), *WRONG),
    ("16 an integer of 5,000 digits", lambda w: w.post(b'{"budget":{"count":' + b"1" * 5000 + b"}}"), *BAD),
    ("17 budget true", lambda w: w.submit(budget={"count": True}), *WRONG),
    ('17 budget "7"', lambda w: w.submit(budget={"count": "7"}), *WRONG),
    ("17 budget 1.0", lambda w: w.submit(budget={"count": 1.0}), *WRONG),
    ("18 budget null", lambda w: w.submit(budget=None), *WRONG),
    ("19 budget above the rows", lambda w: w.submit(budget={"count": 13}), 422, "budget-exceeds-pool"),
    ("20 one key twice", lambda w: w.post(b'{"name":"a","name":"b"}'), *BAD),
    ("21 tenant_id", lambda w: w.submit(tenant_id="proj_other"), *WRONG),
    ("22 nested 100,000 deep", lambda w: w.post(b"[" * 100_000), *BAD),
    # 400, not 422: refused by depth before it is parsed.
    ("23 metadata nested 900 deep", lambda w: w.post(b'{"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 901), *BAD),
    (
        "24 a million keys",
        lambda w: w.post(b"{" + b",".join(b'"%d":1' % number for number in range(10**6)) + b"}"),
        *TOO_LARGE,
    ),
    ("25 a text of 50 MB", lambda w: w.post(b'{"name":"' + b"x" * (50 * 10**6) + b'"}'), *TOO_LARGE),
    (
        "26 5 MB of unannounced length",
        lambda w: w.service.http.post(
            "/v1/jobs", content=chunks(5 * 2**20), headers={"content-type": "application/json"}
        ),
        *TOO_LARGE,
    ),
    # 408 is for the reverse proxy, which counts time; here it must cost nobody else anything.
    ("27 a body that never comes in full", stalled, 200, None),
    ("28 a line break in a name", lambda w: w.submit(name="a\nb"), *WRONG),
    ("28 a terminal's colours in a name", lambda w: w.submit(name="\x1b[31mred"), *WRONG),
    ("29 an id of another form", lambda w: w.get("/v1/jobs/none"), *WRONG),
    ("29 %00 as an id", lambda w: w.get("/v1/jobs/%00"), *WRONG),
    ("29 %ff as an id", lambda w: w.get("/v1/jobs/%ff"), *WRONG),
    ("29 an id of 60 kB", lambda w: w.get("/v1/jobs/" + "x" * 60_000), *WRONG),
    ("30 ../../etc/passwd", lambda w: w.get("/v1/datasets/..%2f..%2fetc%2fpasswd"), 404, "not-found"),
    ("31 no key", lambda w: w.ask("/v1/jobs"), *STRANGER),
    ("31 a key of no form", lambda w: w.ask("/v1/jobs", "spk_x"), *STRANGER),
    ("31 a key nobody has", lambda w: w.ask("/v1/jobs", new_secret()), *STRANGER),
    ("31 a revoked key", lambda w: w.ask("/v1/jobs", w.secrets["revoked"]), *STRANGER),
    (
        "31 another project's key",
        lambda w: w.ask(f"/v1/datasets/{w.dataset_id}", w.secrets["other"]),
        404,
        "not-found",
    ),
    ("32 a key in the query", lambda w: w.ask(f"/v1/jobs?api_key={w.secrets['own']}"), *STRANGER),
    # Taken, not 400: the header is optional, and the client library always sends one.
    ("33 no Idempotency-Key", lambda w: w.submit(name="33"), 202, None),
    (
        "34 an Idempotency-Key of 300",
        lambda w: w.submit({"Idempotency-Key": "k" * 300}),
        400,
        "idempotency-key-invalid",
    ),
    ("34 a tab in an Idempotency-Key", lambda w: w.submit({"Idempotency-Key": "a\tb"}), 400, "idempotency-key-invalid"),
    ("35 an Idempotency-Key with another body", reused, 422, "idempotency-key-reused"),
    ("36 limit -1", lambda w: w.get("/v1/jobs?limit=-1"), *WRONG),
    ("36 limit 10^9", lambda w: w.get("/v1/jobs?limit=1000000000"), *WRONG),
    ("36 a cursor of no form", lambda w: w.get("/v1/jobs?after=%00"), *WRONG),
    (
        "37 a model that is not allowed",
        lambda w: w.submit(proxy={"model": "no-such-org/no-such-model"}),
        422,
        "proxy-not-allowed",
    ),
    # A branch of a hub model is resolved to its commit when the job is made, and the commit is what is kept.
    (
        "38 revision main of a built-in model",
        lambda w: w.submit(proxy={"model": "builtin:tiny", "revision": "main"}),
        422,
        "config-invalid",
    ),
    ("39 an unknown method", lambda w: w.submit(method="magic"), *WRONG),
    ("39 a penalty of 11", lambda w: w.submit(selection={"conflict_penalty": 11}), *WRONG),
    ("40 SQL, templates and a script in a name", kept_as_text, 202, None),
]

OUTBOUND = "tests/service/test_outbound.py"
"""The guard of outgoing requests, which every address that a client names goes through."""

ELSEWHERE = {
    69: "tests/library/test_examples.py::test_long_samples_are_cut_and_counted_or_left_out",
    70: "tests/workers/test_unusable_gradients.py::test_a_job_counts_lists_and_tells_them",
    73: "tests/library/test_baselines.py::test_every_method_chooses_everything_when_asked_to_and_repeats_itself",
    77: "tests/service/test_jobs.py::test_the_same_rows_in_another_file_reuse_the_gradients",
    # A template that never ends stalls its unit: the lease goes, then the process. Models come from an allow-list.
    78: "tests/workers/test_run_unit.py::test_a_process_whose_work_hangs_although_its_lease_is_gone_is_ended",
}


@pytest.mark.parametrize(("call", "status", "code"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_a_bad_request_is_answered_as_the_table_says(
    world: World, call: Callable[[World], httpx.Response], status: int, code: str | None
) -> None:
    response = call(world)
    answered = response.json()
    assert (response.status_code, answered.get("code")) == (status, code), answered
    if code is not None:
        assert response.headers["content-type"] == "application/problem+json"
        assert len(response.content) < 10_000, "the input comes back in the answer"
    assert world.get("/v1/jobs").status_code == 200, "the service lives"


def numbers(rows: list[Any]) -> Counter[int]:
    return Counter(int(str(row[0]).split()[0]) for row in rows)


def test_every_number_has_one_place() -> None:
    requests, files = set(numbers(REQUESTS)), set(numbers(FILES))
    addresses = set(range(41, 50)) if (ROOT / OUTBOUND).exists() else set()
    places = Counter([*requests, *files, *addresses, *ELSEWHERE])
    assert not [number for number, times in places.items() if times > 1], "proven in two places"
    missing = set(range(1, 79)) - set(places)
    # Nothing can name an address as long as there is no guard for it.
    assert missing == (set() if addresses else set(range(41, 50)))
    for number, place in ELSEWHERE.items():
        file, _, name = place.partition("::")
        assert re.search(rf"^def {name}\(", Path(ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), number
    print(f"{len(REQUESTS)} requests, {len(FILES)} files, {len(ELSEWHERE)} elsewhere, {len(missing)} not yet possible")
