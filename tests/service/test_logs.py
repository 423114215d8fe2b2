"""Log lines: from a request to its job and on to the units, by ids that stand in each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app import logs
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
