"""What may be sent to make a data set as ``application/json``, and what is refused before it is one."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.fixtures.service import InProcessService, jsonl, sums

ROW = sums(1)[0]


def sent(service: InProcessService, body: bytes, media_type: str = "application/json") -> httpx.Response:
    return service.http.post("/v1/datasets", content=body, headers={"content-type": media_type})


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (json.dumps(sums(4)).encode(), {}),
        (b"\xef\xbb\xbf \n" + json.dumps(sums(4)).encode(), {}),
        (json.dumps(sums(4), indent=2).encode(), {}),
        (jsonl(sums(4)), {}),
        (jsonl([*sums(3), {**sums(4)[3], "source": "web"}]), {}),
        (json.dumps([*sums(4), 7]).encode(), {"not-an-object": 1}),
        (jsonl([{**row, "filler": "x" * 2**19} for row in sums(4)]), {}),
    ],
    ids=["array", "byte order mark", "indented", "lines", "a column called source", "no object", "long"],
)
def test_records_are_an_array_or_lines(service: InProcessService, body: bytes, rejected: dict[str, int]) -> None:
    answer = sent(service, body)
    assert answer.status_code == 202, answer.text
    service.drain()
    dataset = service.http.get(answer.headers["Location"]).json()
    assert (dataset["status"], dataset["num_usable"], dataset["rejected"]) == ("ready", 4, rejected)


REFUSED: list[tuple[bytes, int, str, str | None]] = [
    (b"\x06\xef\xbf\xbd", 400, "malformed-request", None),
    (b"instruction,output\nSay 1,1\nSay 2,2\n", 400, "malformed-request", None),
    (b"null", 400, "malformed-request", None),
    (b'"text"', 400, "malformed-request", None),
    (b"\xff\xfe[\x00]\x00", 400, "malformed-request", None),
    (b"{\xff", 400, "malformed-request", None),
    (b'{"source"', 400, "malformed-request", None),
    (b'[{"a": 1}', 400, "malformed-request", None),
    (b"[" * 5000, 400, "malformed-request", None),
    (b"[" + b"9" * 5000 + b"]", 400, "malformed-request", None),
    (b'{"source": {"type": "file", "path": "a", "path": "b"}}', 400, "malformed-request", None),
    (b'{"source": {"type": "file", "path": NaN}}', 422, "validation-error", None),
    (b"[]", 422, "dataset-empty", "#"),
    (b"", 422, "dataset-empty", "#"),
    (b" \n ", 422, "dataset-empty", "#"),
    (b"{}", 422, "validation-error", "#/source"),
    (b'{"sorce": {"type": "file", "path": "a"}}', 422, "validation-error", "#/sorce"),
    (b'{"source": "hf://datasets/org/name"}', 422, "validation-error", "#/source"),
    (json.dumps(ROW).encode(), 422, "validation-error", "#/source"),
]


@pytest.mark.parametrize(("body", "status", "code", "pointer"), REFUSED)
def test_what_is_neither_request_nor_records_makes_no_data_set(
    shared_service: InProcessService, body: bytes, status: int, code: str, pointer: str | None
) -> None:
    def held() -> list[Any]:
        listed: list[Any] = shared_service.http.get("/v1/datasets").json()["data"]
        return listed

    before = held()
    answer = sent(shared_service, body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert pointer in {None, problem.get("pointer"), *(found.get("pointer") for found in problem.get("errors", []))}
    assert held() == before


def test_one_record_alone_is_sent_as_lines(service: InProcessService) -> None:
    answer = sent(service, json.dumps({**ROW, "source": "web"}).encode(), "application/x-ndjson")
    service.drain()
    assert service.http.get(answer.headers["Location"]).json()["status"] == "ready"
