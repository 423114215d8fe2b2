"""Data sets over HTTP."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import socket
import sqlite3
from typing import Any

import httpx
import pytest

from spice_select.cli import main
from tests.fixtures.service import InProcessService, jsonl, sums


def test_a_data_set_becomes_ready_and_says_what_it_holds(any_service: InProcessService) -> None:
    data = jsonl([*sums(5), {"instruction": "empty", "output": "  "}, {"instruction": "x"}, *sums(3, 5)]) + b"[1]\n"
    dataset = any_service.push(data, name="mine.jsonl", metadata='{"team": "search"}')
    assert dataset["status"] == "ready", dataset
    assert dataset["name"] == "mine.jsonl"
    assert (dataset["container"], dataset["format"]) == ("jsonl", "alpaca")
    assert (dataset["num_rows"], dataset["num_usable"], dataset["num_rejected"]) == (11, 8, 3)
    assert dataset["digest"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert dataset["bytes"] == len(data)
    assert dataset["metadata"] == {"team": "search"}
    assert sum(dataset["rejected"].values()) == 3
    rejected = any_service.http.get(f"/v1/datasets/{dataset['id']}/rejected").json()["data"]
    assert [(row["row"], row["code"]) for row in rejected] == [
        (5, "empty-response"),
        (6, "missing-column"),
        (10, "not-an-object"),
    ]


def test_rows_are_shown_page_by_page_with_their_digests(service: InProcessService) -> None:
    records = sums(7)
    dataset = service.push(jsonl(records))
    seen: list[dict[str, Any]] = []
    url = f"/v1/datasets/{dataset['id']}/rows?limit=3"
    while url:
        response = service.http.get(url)
        seen += response.json()["data"]
        url = response.links.get("next", {}).get("url", "")
    assert [row["record"] for row in seen] == records
    assert [row["row"] for row in seen] == list(range(7))
    for row in seen:
        line = json.dumps(row["record"], ensure_ascii=False, separators=(",", ":"))
        assert row["row_sha256"] == hashlib.sha256(line.encode()).hexdigest()
    assert seen[0]["messages"][0]["role"] == "user"


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("application/x-ndjson", jsonl(sums(4))),
        ("application/json", json.dumps(sums(4)).encode()),
        ("text/csv", b"instruction,output\n" + b"".join(f"Say {i},It is {i}\n".encode() for i in range(4))),
        ("application/gzip", gzip.compress(jsonl(sums(4)), mtime=0)),
        ("application/octet-stream", jsonl(sums(4))),
    ],
)
def test_a_raw_body_is_read_by_its_content(service: InProcessService, media_type: str, data: bytes) -> None:
    response = service.http.post("/v1/datasets?name=raw", content=data, headers={"content-type": media_type})
    assert response.status_code == 202
    assert response.headers["Retry-After"]
    assert response.json()["status"] == "validating"
    service.drain()
    dataset = service.http.get(response.headers["Location"]).json()
    assert (dataset["status"], dataset["num_usable"], dataset["name"]) == ("ready", 4, "raw")


def test_parquet_is_read(service: InProcessService) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(sums(4)), sink)
    dataset = service.push(sink.getvalue(), name="rows.parquet")
    assert (dataset["status"], dataset["container"], dataset["num_usable"]) == ("ready", "parquet", 4)


def test_a_column_mapping_overrides_detection(service: InProcessService) -> None:
    data = jsonl([{"q": f"What is {i}?", "a": f"It is {i}.", "text": "noise"} for i in range(3)])
    dataset = service.push(data, columns='{"prompt": "q", "response": "a"}', format="question_answer")
    assert dataset["status"] == "ready", dataset
    assert dataset["columns"] == {"prompt": "q", "response": "a"}


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (gzip.compress(jsonl(sums(200)), mtime=0)[:-30], "dataset-truncated", ""),
        (jsonl(sums(3)) + b'{"instruction": "a", "output": \n' + jsonl(sums(1)), "dataset-invalid-json", "line 4"),
        (bytes(range(256)) * 20, "dataset-format-unknown", ""),
        (b"\n\n  \n", "dataset-empty", ""),
        (b"[]", "dataset-empty", ""),
        (jsonl([{"alpha": 1, "beta": 2}] * 3), "dataset-form-unknown", "alpha"),
        (jsonl([{"instruction": "a", "output": ""}] * 3), "dataset-no-usable-rows", ""),
        (b"PK\x03\x04" + bytes(100), "dataset-unreadable", ""),
    ],
)
def test_a_file_that_cannot_be_used_is_invalid_with_a_problem(
    service: InProcessService, data: bytes, code: str, says: str
) -> None:
    dataset = service.push(data)
    assert dataset["status"] == "invalid"
    problem = dataset["error"]
    assert problem["code"] == code, problem
    assert says in problem["detail"]
    assert problem["type"] == f"http://127.0.0.1:{service.port}/problems/{code}"
    assert service.http.get(problem["type"]).status_code == 200
    job = service.http.post("/v1/jobs", json={"dataset_id": dataset["id"], "budget": {"count": 1}})
    assert (job.status_code, job.json()["code"]) == (422, "dataset-invalid")
    assert service.push(jsonl(sums(2)))["status"] == "ready", "the service lives"


def test_invalid_json_points_at_the_row(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(3)) + b"{oops}\n")
    assert dataset["error"]["errors"][0]["pointer"] == "#/rows/3"


@pytest.mark.parametrize(
    ("kwargs", "status", "code"),
    [
        ({"content": b"", "headers": {"content-type": "text/csv"}}, 422, "dataset-empty"),
        ({"content": b"x", "headers": {"content-type": "image/png"}}, 415, "unsupported-media-type"),
        ({"files": {"other": ("a", b"x")}}, 422, "validation-error"),
        ({"files": {"file": ("a", b"")}}, 422, "dataset-empty"),
        ({"files": {"file": ("a", b"x")}, "data": {"format": "bogus"}}, 422, "validation-error"),
        ({"files": {"file": ("a", b"x")}, "data": {"columns": "{nope"}}, 422, "validation-error"),
        ({"files": {"file": ("a", b"x")}, "data": {"columns": '{"nobody": "x"}'}}, 422, "validation-error"),
        ({"files": {"file": ("a", b"x")}, "data": {"unknown": "1"}}, 422, "validation-error"),
        ({"files": {"file": ("a", b"x")}, "data": {"name": "a\nb"}}, 422, "validation-error"),
        ({"files": {"file": ("a", b"x")}, "data": {"metadata": '{"a": 1}'}}, 422, "validation-error"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, "malformed-request"),
        ({"content": b"x", "headers": {"content-encoding": "gzip"}}, 415, "unsupported-media-type"),
    ],
)
def test_a_bad_upload_is_refused_at_once(
    shared_service: InProcessService, kwargs: dict[str, Any], status: int, code: str
) -> None:
    response = shared_service.http.post("/v1/datasets", **kwargs)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert shared_service.http.get("/v1/datasets").json()["data"] == []


def test_a_file_over_the_limit_is_refused_while_it_arrives(sqlite_url: str, tmp_path: Any) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", max_upload_bytes=1000) as service:
        too_much = (b"x" * 500 for _ in range(5000))
        response = service.http.post("/v1/datasets", content=too_much, headers={"content-type": "text/csv"})
        assert (response.status_code, response.json()["code"]) == (413, "payload-too-large")
        multipart = service.http.post("/v1/datasets", files={"file": ("a", b"x" * 5000)})
        assert (multipart.status_code, multipart.json()["code"]) == (413, "payload-too-large")
        assert not list((tmp_path / "data" / "tmp").iterdir()), "nothing of it stays on the disk"
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as asking:
            # curl asks before it sends more than a megabyte: the answer comes before a byte of it.
            asking.sendall(
                b"POST /v1/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/csv\r\n"
                b"Content-Length: 9000000000\r\nExpect: 100-continue\r\n\r\n"
            )
            assert asking.recv(12) == b"HTTP/1.1 413"
        assert service.http.get("/v1/datasets").json()["data"] == []


def test_a_repeated_upload_with_one_key_makes_one_data_set(any_service: InProcessService) -> None:
    def send(data: bytes) -> Any:
        headers = {"Idempotency-Key": '"upload-1"'}
        return any_service.http.post("/v1/datasets", files={"file": ("a.jsonl", data)}, headers=headers)

    first, second = send(jsonl(sums(2))), send(jsonl(sums(2)))
    assert first.json()["id"] == second.json()["id"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    other = send(jsonl(sums(3)))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(any_service.http.get("/v1/datasets").json()["data"]) == 1


def test_the_rows_of_a_data_set_that_has_none_yet_or_never_will(service: InProcessService) -> None:
    def rows(data: bytes) -> list[httpx.Response]:
        path = f"{service.http.post('/v1/datasets', files={'file': data}).headers['Location']}/rows"
        answers = [service.http.get(path)]
        service.drain()
        return [*answers, service.http.get(path)]

    early, ready = rows(jsonl(sums(3)))
    assert (early.status_code, early.json()["code"]) == (409, "dataset-not-ready")
    assert int(early.headers["Retry-After"]) >= 1
    assert len(ready.json()["data"]) == 3
    _, never = rows(b"{not json}\n")
    assert (never.status_code, never.json()["code"], never.json()["retryable"]) == (422, "dataset-invalid", False)
    assert "line 1" in never.json()["detail"]


def test_lists_are_paged_newest_first(service: InProcessService) -> None:
    ids = [service.push(jsonl(sums(1, start)))["id"] for start in range(5)]
    first = service.http.get("/v1/datasets?limit=2&status=ready")
    assert [entry["id"] for entry in first.json()["data"]] == [ids[4], ids[3]]
    assert first.json()["has_more"]
    rest = service.http.get(first.links["next"]["url"])
    assert [entry["id"] for entry in rest.json()["data"]] == [ids[2], ids[1]]
    last = service.http.get("/v1/datasets", params={"after": rest.json()["next_cursor"]})
    assert [entry["id"] for entry in last.json()["data"]] == [ids[0]]
    assert not last.json()["has_more"]
    assert service.http.get("/v1/datasets?after=%%%").status_code == 422


def test_a_deleted_data_set_is_gone_with_its_bytes(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(4)))
    twin = any_service.push(jsonl(sums(4)))
    objects = any_service.settings.data_dir / "objects"

    def stored() -> int:
        return sum(1 for path in objects.rglob("*") if path.is_file())

    before = stored()
    assert any_service.http.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert any_service.http.get(f"/v1/datasets/{dataset['id']}").status_code == 404
    assert any_service.http.delete(f"/v1/datasets/{dataset['id']}").status_code == 204, "a repeated call is no error"
    assert stored() == before, "the twin of the same bytes still needs them"
    assert any_service.http.delete(f"/v1/datasets/{twin['id']}").status_code == 204
    assert stored() == 0


def test_a_data_set_in_use_cannot_be_deleted(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(5)))
    job = any_service.submit(dataset["id"])
    refused = any_service.http.delete(f"/v1/datasets/{dataset['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset-in-use")
    any_service.drain()
    assert any_service.job(job["id"])["status"] == "succeeded"
    assert any_service.http.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert any_service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").status_code == 200


def test_a_deleted_data_set_is_not_validated_any_more(service: InProcessService) -> None:
    response = service.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(2)))})
    assert service.http.delete(response.headers["Location"]).status_code == 204
    assert service.drain() == 0


def test_text_that_a_database_cannot_hold_is_kept_out_of_trouble(any_service: InProcessService) -> None:
    # A NUL in a column name and in a rejected value reaches text columns of the database.
    data = jsonl([*sums(2), {"instruction": 5, "output": "a\u0000b", "no\u0000": 1}])
    dataset = any_service.push(data)
    assert dataset["status"] == "ready"
    assert dataset["num_rejected"] == 1


def test_an_unchanged_data_set_is_not_sent_again(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(2)))
    first = service.http.get(f"/v1/datasets/{dataset['id']}")
    again = service.http.get(f"/v1/datasets/{dataset['id']}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_sqlite_is_new_enough() -> None:
    assert sqlite3.sqlite_version_info >= (3, 35), "UPDATE ... RETURNING is what claims rest on"


def test_a_data_set_without_a_usable_row_says_why_of_each(
    service: InProcessService, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"instruction": "a", "output": ""}] * 12 + [{"instruction": "", "output": "b"}] * 3
    dataset = service.push(jsonl(rows))
    error = dataset["error"]
    assert error["reasons"] == {"empty-response": 12, "empty-prompt": 3}
    assert [finding["pointer"] for finding in error["errors"]] == [f"#/rows/{row}" for row in range(10)]
    assert service.http.get("/v1/datasets").json()["data"][0]["error"] == error
    page = service.http.get("/ui/datasets").text
    assert "12 <code>empty-response</code>, 3 <code>empty-prompt</code>" in page
    assert page.count("column &#39;output&#39; is empty") > 9
    monkeypatch.setenv("SPICE_API_URL", str(service.http.base_url))
    with pytest.raises(SystemExit):
        main(["datasets", "show", dataset["id"]])
    said = capsys.readouterr().err
    assert "12 rows: empty-response" in said
    assert "#/rows/9" in said


def test_rows_show_numbers_beyond_a_double_as_they_came(service: InProcessService) -> None:
    lines = [
        f'{{"instruction":"a{n}","output":"b","score":{text}}}' for n, text in enumerate(("1e400", "0.1" + "2" * 30))
    ]
    dataset = service.push("\n".join(lines).encode())
    first = service.http.get(f"/v1/datasets/{dataset['id']}/rows?limit=1")
    assert f'"record":{lines[0]},' in first.text
    assert first.headers["content-type"] == "application/json"
    assert 'rel="next"' in first.headers["Link"]
    rest = service.http.get(f"/v1/datasets/{dataset['id']}/rows", params={"after": first.json()["next_cursor"]})
    assert f'"record":{lines[1]},' in rest.text
