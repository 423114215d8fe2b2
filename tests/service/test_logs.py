"""Log lines: from a request to its job and on to the units, by ids that stand in each of them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from app import logs
from tests.fixtures.hooked import until
from tests.fixtures.service import InProcessService, jsonl, sums


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_complaint_can_be_followed_from_its_request_to_the_unit_that_failed(
    sqlite_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        with InProcessService(sqlite_url, tmp_path / "data", log_level="info") as service:
            dataset = service.push(jsonl(sums(6)))
            posted = service.http.post(
                "/v1/jobs",
                json={"dataset_id": dataset["id"], "budget": {"count": 2}, "gradients": {"sketch_dim": 4}},
                headers={"X-Request-Id": "complaint-7"},
            )
            job_id = posted.json()["id"]
            service.drain()
            secret = service.http.post(f"/v1/jobs/{job_id}/files/selected.jsonl/links", json={}).json()["url"]
            service.http.get(secret)
            for path in ("/livez", "/readyz", "/metrics", f"/v1/jobs/{job_id}", "/nothing/here"):
                service.http.get(path)
    finally:
        logs.configure("error")
    found = lines(capfd.readouterr().err)
    requests = [line for line in found if line["event"] == "request"]
    (made,) = [line for line in requests if line["request_id"] == "complaint-7"]
    assert (made["method"], made["route"], made["status"]) == ("POST", "/v1/jobs", 202)
    assert made["location"] == f"/v1/jobs/{job_id}"
    assert made["timestamp"].endswith("Z")
    assert 0 < made["seconds"] < 60
    assert [line["status"] for line in requests if line.get("job_id") == job_id and line["method"] == "GET"] == [200]
    assert {line["route"] for line in requests}.isdisjoint({"/livez", "/readyz", "/metrics"})
    assert [line["route"] for line in requests if line["status"] == 404] == ["none"]
    token = secret.split("/links/")[1].split("/")[0]
    assert token not in json.dumps(found), "a signed link opens a file and stays out of the logs"
    ended = [line for line in found if line["event"] == "unit_ended" and line["job_id"] == job_id]
    assert [(line["kind"], line["outcome"]) for line in ended] == [("select", "committed")]
    assert ended[0]["unit_id"].startswith("unit_")


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs"])
def test_a_client_that_goes_away_while_it_sends_is_no_fault_of_the_service(
    sqlite_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    try:
        with InProcessService(sqlite_url, tmp_path / "data", log_level="info") as service:
            about = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 99"
            begun = f"POST {path} HTTP/1.1\r\n{about}\r\n\r\n{{"
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(begun.encode())
                until(lambda: service.http.get("/livez").is_success, "the service")
            until(lambda: f'route="{path}",status="' in service.http.get("/metrics").text, "the request")
            counted = service.http.get("/metrics").text
    finally:
        logs.configure("error")
    said = capfd.readouterr()
    assert f'route="{path}",status="5xx"' not in counted
    assert "unexpected_error" not in said.out + said.err
    assert "Traceback" not in said.out + said.err
