"""Data sets of the hub, through ``huggingface_hub`` and ``datasets`` themselves, from a server of its routes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.hub import HubServer
from tests.fixtures.service import InProcessService, jsonl, sums

TOKEN = "hf_canary_0123456789"
CARD = b"""---
configs:
- config_name: plain
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test.parquet
- config_name: lines
  data_files: lines/*.jsonl
---
# Sums
"""


def parquet(rows: list[dict[str, str]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


FILES = {
    "README.md": CARD,
    "data/train-00000-of-00002.parquet": parquet(sums(20)),
    "data/train-00001-of-00002.parquet": parquet(sums(15, 20)),
    "data/test.parquet": parquet(sums(4, 100)),
    "lines/a.jsonl": jsonl(sums(6)),
}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture
def service(sqlite_url: str, tmp_path: Path, hub: HubServer) -> Iterator[InProcessService]:
    settings: dict[str, Any] = {"source_hub_repos": ["org/*"], "hub_endpoint": hub.url, "max_attempts": 2}
    with InProcessService(sqlite_url, tmp_path / "data", **settings) as running:
        yield running


def add(service: InProcessService, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = service.http.post("/v1/datasets", json={"source": source, **more})
    assert response.status_code == 202, response.text
    service.drain()
    found: dict[str, Any] = service.http.get(response.headers["Location"]).json()
    return found


def test_a_split_of_several_files_becomes_a_data_set_at_one_commit(service: InProcessService, hub: HubServer) -> None:
    commit = hub.push("org/sums", FILES)
    dataset = add(service, {"type": "hf", "repo": "org/sums", "config": "plain"}, name="sums", metadata={"team": "x"})
    assert dataset["status"] == "ready", dataset["error"]
    assert (dataset["num_rows"], dataset["container"], dataset["name"]) == (35, "parquet", "sums")
    source = dataset["source"]
    assert (source["type"], source["repo"], source["revision"], source["split"]) == ("hf", "org/sums", "main", "train")
    resolved = source["resolved"]
    assert (resolved["revision"], resolved["num_files"]) == (commit, 2)
    assert resolved["uri"].endswith(f"/datasets/org/sums/tree/{commit}")
    assert [file["name"] for file in resolved["files"]] == [name for name in FILES if name.startswith("data/train")]
    rows = service.http.get(f"/v1/datasets/{dataset['id']}/rows", params={"limit": 50}).json()["data"]
    assert [row["record"] for row in rows] == sums(35)
    lines = add(service, {"type": "hf", "repo": "org/sums", "revision": commit, "config": "lines"})
    assert (lines["num_rows"], lines["container"]) == (6, "jsonl")
    assert "test.parquet" not in " ".join(hub.asked), "only the files of the split are fetched"


def test_another_attempt_fetches_the_commit_of_the_first(service: InProcessService, hub: HubServer) -> None:
    first = hub.push("org/sums", FILES)
    hub.lie = True
    response = service.http.post("/v1/datasets", json={"source": {"type": "hf", "repo": "org/sums", "config": "lines"}})
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    service.runner.run_claim(claim)
    waiting = service.http.get(response.headers["Location"]).json()
    assert (waiting["status"], waiting["digest"], waiting["bytes"]) == ("validating", None, None)
    assert waiting["source"]["resolved"]["revision"] == first
    hub.lie = False
    hub.push("org/sums", {**FILES, "lines/a.jsonl": jsonl(sums(99))})
    service.drain()
    dataset = service.http.get(response.headers["Location"]).json()
    assert (dataset["status"], dataset["num_rows"]) == ("ready", 6)
    assert dataset["source"]["resolved"]["revision"] == first


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ({"repo": "org/none"}, "source-not-found", "org/none"),
        ({"repo": "org/sums", "revision": "v9"}, "source-not-found", "v9"),
        ({"repo": "org/sums", "config": "other"}, "source-not-found", "plain"),
        ({"repo": "org/sums"}, "source-not-found", "plain"),
        ({"repo": "org/sums", "config": "plain", "split": "valid"}, "source-not-found", "test, train"),
        ({"repo": "org/out"}, "source-not-allowed", "outside"),
        ({"repo": "org/script"}, "source-not-found", ""),
        ({"repo": "org/bad"}, "dataset-invalid-json", "line 1"),
    ],
)
def test_what_is_not_there_or_cannot_be_read_is_said(
    service: InProcessService, hub: HubServer, source: dict[str, str], code: str, said: str
) -> None:
    hub.push("org/sums", FILES)
    card = f"---\nconfigs:\n- config_name: a\n  data_files: {hub.url}/elsewhere.jsonl\n---\n".encode()
    hub.push("org/out", {"README.md": card, "a.jsonl": jsonl(sums(2))})
    hub.push("org/script", {"script.py": b"raise SystemExit"})
    hub.push("org/bad", {"train.jsonl": b'{"instruction": \n'})
    dataset = add(service, {"type": "hf", **source})
    assert (dataset["status"], dataset["error"]["code"]) == ("invalid", code), dataset["error"]
    assert said in dataset["error"]["detail"]
    assert dataset["error"]["retryable"] is False
    assert not [path for path in hub.asked if "elsewhere" in path]


def test_a_hub_that_is_down_is_asked_again_and_then_given_up_as_infrastructure(
    service: InProcessService, hub: HubServer
) -> None:
    hub.down = True
    dataset = add(service, {"type": "hf", "repo": "org/sums"})
    error = dataset["error"]
    assert (dataset["status"], error["code"], error["retryable"]) == ("invalid", "hub-unreachable", True)
    assert sum("/revision/main" in path for path in hub.asked) >= 2, "each attempt asked"


def test_a_private_data_set_needs_the_services_token_which_is_told_to_nobody(
    sqlite_url: str, tmp_path: Path, hub: HubServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.push("org/sums", FILES)
    hub.token = TOKEN
    source = {"type": "hf", "repo": "org/sums", "config": "lines"}
    settings: dict[str, Any] = {"source_hub_repos": ["*"], "hub_endpoint": hub.url, "log_level": "debug"}
    caplog.set_level(logging.DEBUG)
    with InProcessService(sqlite_url, tmp_path / "data", **settings) as stranger:
        assert add(stranger, source)["error"]["code"] == "source-not-found"
    with InProcessService(sqlite_url, tmp_path / "data", hub_token=TOKEN, **settings) as service:
        dataset = add(service, source)
        assert dataset["status"] == "ready", dataset["error"]
        assert f"Bearer {TOKEN}" in hub.authorizations
        shown = json.dumps(dataset) + service.http.get("/v1/events").text
    said = capfd.readouterr()
    assert TOKEN not in shown + caplog.text + said.out + said.err
    assert not [
        path for path in (tmp_path / "data").rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]


def test_a_split_larger_than_allowed_is_refused_before_it_is_fetched(
    sqlite_url: str, tmp_path: Path, hub: HubServer
) -> None:
    hub.push("org/sums", FILES)
    settings: dict[str, Any] = {"source_hub_repos": ["org/sums"], "hub_endpoint": hub.url, "max_upload_bytes": 400}
    with InProcessService(sqlite_url, tmp_path / "data", **settings) as service:
        dataset = add(service, {"type": "hf", "repo": "org/sums", "config": "lines"})
        assert dataset["error"]["code"] == "download-limit"
        assert not [path for path in hub.asked if path.endswith("a.jsonl") and path.startswith("GET")]
