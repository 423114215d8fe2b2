"""Files in parts: any order, again, after a crash of the client, given up, and nothing but the announced bytes."""

from __future__ import annotations

import base64
import hashlib
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.persistence.repositories.artifacts import Uploads
from app.persistence.tables import PartUpload
from app.persistence.types import clock
from app.services.datasets.uploads import UploadService
from tests.fixtures.service import InProcessService, jsonl, sums

DATA = jsonl(sums(60))
PART = 1024


def parts_of(data: bytes, size: int = PART) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def begin(service: InProcessService, data: bytes = DATA, **changes: Any) -> dict[str, Any]:
    body = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "part_bytes": PART, "name": "pool.jsonl"}
    response = service.http.post("/v1/datasets/uploads", json={**body, **changes})
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == f"/v1/datasets/uploads/{response.json()['id']}"
    found: dict[str, Any] = response.json()
    return found


def put(service: InProcessService, upload: dict[str, Any], number: int, data: bytes, **headers: str) -> httpx.Response:
    return service.http.put(f"/v1/datasets/uploads/{upload['id']}/parts/{number}", content=data, headers=headers)


def content_digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def test_parts_in_any_order_become_the_same_data_set_as_the_whole_file(any_service: InProcessService) -> None:
    upload = begin(any_service, format="alpaca", metadata={"team": "search"})
    pieces = parts_of(DATA)
    assert (upload["status"], upload["num_parts"], upload["num_received"]) == ("open", len(pieces), 0)
    for number in [3, 1, 2, *range(len(pieces), 3, -1)]:
        piece = pieces[number - 1]
        sent = put(any_service, upload, number, piece, **{"Content-Digest": content_digest(piece)})
        assert sent.status_code == 200, sent.text
        assert sent.json() == {"number": number, "bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()}
    assert put(any_service, upload, 2, pieces[1]).status_code == 200, "the same part again changes nothing"
    path = f"/v1/datasets/uploads/{upload['id']}"
    there = any_service.http.get(path).json()
    assert [part["number"] for part in there["parts"]] == list(range(1, len(pieces) + 1))
    assert there["received_bytes"] == len(DATA)
    made = any_service.http.post(f"{path}/complete")
    assert made.status_code == 202, made.text
    assert made.headers["Retry-After"]
    again = any_service.http.post(f"{path}/complete")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["id"] == made.json()["id"]
    any_service.drain()
    dataset = any_service.http.get(made.headers["Location"]).json()
    whole = any_service.push(DATA)
    assert (dataset["status"], dataset["name"], dataset["metadata"]) == ("ready", "pool.jsonl", {"team": "search"})
    assert dataset["digest"] == whole["digest"]
    assert dataset["rows_digest"] == whole["rows_digest"]
    done = any_service.http.get(path).json()
    assert (done["status"], done["dataset_id"]) == ("completed", dataset["id"])
    assert not any_service.runner.store.part_folders(), "the parts are gone"
    late = put(any_service, upload, 1, pieces[0])
    assert (late.status_code, late.json()["code"]) == (409, "conflict-state")


def test_a_client_that_crashed_finds_its_upload_and_sends_what_is_missing(any_service: InProcessService) -> None:
    upload, pieces = begin(any_service), parts_of(DATA)
    for number in (1, 4):
        put(any_service, upload, number, pieces[number - 1])
    begin(any_service, jsonl(sums(7)))
    digest = hashlib.sha256(DATA).hexdigest()
    found = any_service.http.get("/v1/datasets/uploads", params={"sha256": digest}).json()["data"]
    assert [(one["id"], one["num_received"], one["parts"]) for one in found] == [(upload["id"], 2, None)]
    path = f"/v1/datasets/uploads/{upload['id']}"
    early = any_service.http.post(f"{path}/complete")
    assert (early.status_code, early.json()["code"]) == (409, "parts-missing")
    there = {part["number"] for part in any_service.http.get(path).json()["parts"]}
    assert there == {1, 4}
    for number in set(range(1, len(pieces) + 1)) - there:
        put(any_service, upload, number, pieces[number - 1])
    assert any_service.http.post(f"{path}/complete").status_code == 202


@pytest.mark.parametrize(
    ("number", "data", "headers", "code"),
    [
        (1, DATA[: PART - 1], {}, "validation-error"),
        (1, DATA[: PART + 1], {}, "payload-too-large"),
        (1, b"", {}, "validation-error"),
        (1, DATA[:PART], {"Content-Digest": content_digest(b"else")}, "digest-mismatch"),
        (1, DATA[:PART], {"Content-Digest": "sha-256=:AAAA:"}, "validation-error"),
        (1, DATA[:PART], {"Content-Digest": "md5=:AAAA:"}, "validation-error"),
        (1, DATA[:PART], {"Content-Type": "application/json"}, "unsupported-media-type"),
        (99, DATA[:PART], {}, "validation-error"),
        (0, DATA[:PART], {}, "validation-error"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_refused_and_not_kept(
    service: InProcessService, number: int, data: bytes, headers: dict[str, str], code: str
) -> None:
    upload = begin(service)
    response = put(service, upload, number, data, **headers)
    assert response.json()["code"] == code, response.text
    assert service.http.get(f"/v1/datasets/uploads/{upload['id']}").json()["parts"] == []


def test_the_digest_of_the_whole_is_checked_and_a_wrong_part_can_be_sent_again(service: InProcessService) -> None:
    upload, pieces = begin(service), parts_of(DATA)
    for number, piece in enumerate(pieces, 1):
        put(service, upload, number, piece)
    path = f"/v1/datasets/uploads/{upload['id']}"
    put(service, upload, 2, pieces[1][::-1])
    refused = service.http.post(f"{path}/complete")
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert len(list(service.runner.store.parts(upload["id"]).iterdir())) == len(pieces), "the replaced part is gone"
    assert service.http.get("/v1/datasets").json()["data"] == []
    put(service, upload, 2, pieces[1])
    assert service.http.post(f"{path}/complete").status_code == 202


def test_a_part_that_the_disk_has_lost_is_asked_for_again(service: InProcessService) -> None:
    upload, pieces = begin(service), parts_of(DATA)
    for number, piece in enumerate(pieces, 1):
        put(service, upload, number, piece)
    next(service.runner.store.parts(upload["id"]).glob("00003-*")).unlink()
    path = f"/v1/datasets/uploads/{upload['id']}"
    assert service.http.post(f"{path}/complete").json()["code"] == "parts-missing"
    assert 3 not in {part["number"] for part in service.http.get(path).json()["parts"]}
    put(service, upload, 3, pieces[2])
    assert service.http.post(f"{path}/complete").status_code == 202


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"bytes": 0}, 422, "#/bytes"),
        ({"bytes": 2**40}, 413, "#/bytes"),
        ({"bytes": 2**31, "part_bytes": 1024}, 422, "#/part_bytes"),
        ({"sha256": "x"}, 422, "#/sha256"),
        ({"part_bytes": 10}, 422, "#/part_bytes"),
        ({"columns": {"text": "q", "messages": "m"}}, 422, "#"),
        ({"project_id": "x"}, 422, "#/project_id"),
    ],
)
def test_an_announcement_that_cannot_be_met_is_refused(
    service: InProcessService, changes: dict[str, Any], status: int, pointer: str
) -> None:
    body = {"bytes": 10, "sha256": "0" * 64, **changes}
    response = service.http.post("/v1/datasets/uploads", json=body)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (status, pointer), response.text


def test_a_project_has_only_so_many_uploads_open(sqlite_url: str, tmp_path: Path) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", max_open_uploads=2) as service:
        first, _ = begin(service), begin(service)
        body = {"bytes": 10, "sha256": "0" * 64}
        refused = service.http.post("/v1/datasets/uploads", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-uploads")
        assert refused.headers["Retry-After"]
        assert service.http.delete(f"/v1/datasets/uploads/{first['id']}").status_code == 204
        assert service.http.post("/v1/datasets/uploads", json=body).status_code == 201


def test_an_upload_is_given_up_once_and_saying_so_again_is_no_error(any_service: InProcessService) -> None:
    upload, http = begin(any_service), any_service.http
    path = f"/v1/datasets/uploads/{upload['id']}"
    put(any_service, upload, 1, DATA[:PART])
    assert [http.delete(path).status_code for _ in range(3)] == [204, 204, 204]
    assert any_service.runner.store.part_folders() == []
    assert http.get(path).status_code == put(any_service, upload, 1, DATA[:PART]).status_code == 404
    never = http.delete(f"{path[:-1]}{'A' if path[-1] != 'A' else 'B'}")
    assert (never.status_code, never.json()["code"]) == (404, "not-found")


def test_what_nobody_goes_on_with_is_removed(any_service: InProcessService) -> None:
    kept, left = begin(any_service), begin(any_service)
    for upload in (kept, left):
        put(any_service, upload, 1, DATA[:PART])
    store = any_service.runner.store
    (store.root / "uploads" / "up_litter").mkdir()
    uploads = UploadService(any_service.runner.database, store, any_service.settings)
    assert uploads.sweep() == 0
    with any_service.runner.database.write() as session:
        session.execute(update(PartUpload).where(PartUpload.id == left["id"]).values(expires_at=clock(-1)))
    gone = any_service.http.get(f"/v1/datasets/uploads/{left['id']}")
    assert gone.status_code == 404, "over is over, swept or not"
    assert uploads.sweep() == 1
    assert store.part_folders() == [kept["id"]]
    assert put(any_service, kept, 2, DATA[PART : 2 * PART]).status_code == 200


def test_a_repeated_announcement_begins_one_upload(service: InProcessService) -> None:
    body = {"bytes": 10, "sha256": "0" * 64}
    headers = {"Idempotency-Key": "once"}
    first = service.http.post("/v1/datasets/uploads", json=body, headers=headers)
    second = service.http.post("/v1/datasets/uploads", json=body, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    other = service.http.post("/v1/datasets/uploads", json={**body, "bytes": 11}, headers=headers)
    assert other.json()["code"] == "idempotency-key-reused"


def test_completed_by_two_at_once_it_is_one_data_set(any_service: InProcessService) -> None:
    upload = begin(any_service)
    for number, piece in enumerate(parts_of(DATA), 1):
        put(any_service, upload, number, piece)
    answers: list[httpx.Response] = []

    def complete() -> None:
        with httpx.Client(base_url=any_service.http.base_url, timeout=60) as http:
            answers.append(http.post(f"/v1/datasets/uploads/{upload['id']}/complete"))

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 6, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(any_service.http.get("/v1/datasets").json()["data"]) == 1


def test_an_upload_completed_between_two_reads_of_another_call_is_complete_to_it(
    any_service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(any_service)
    for number, piece in enumerate(parts_of(DATA), 1):
        put(any_service, upload, number, piece)
    path = f"/v1/datasets/uploads/{upload['id']}/complete"
    made: list[httpx.Response] = []

    def completed_after(method: Any) -> Any:
        def first_read(*arguments: Any, **named: Any) -> Any:
            found = method(*arguments, **named)
            if not made:
                made.append(httpx.Response(0))  # the call below reads as well
                made[0] = any_service.http.post(path)
            return found

        return first_read

    monkeypatch.setattr(Uploads, "get", completed_after(Uploads.get))
    monkeypatch.setattr(Uploads, "parts", completed_after(Uploads.parts))
    with httpx.Client(base_url=any_service.http.base_url, timeout=60) as http:
        second = http.post(path)
    assert (made[0].status_code, second.status_code) == (202, 202), second.text
    assert second.json()["id"] == made[0].json()["id"]
