"""The read face of the Hugging Face hub, spoken to by ``datasets`` and ``huggingface_hub`` themselves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from app.ids import DEFAULT_PROJECT
from app.services.access.keys import KeyService
from tests.integrations.conftest import Finished, Script
from tests.integrations.test_datasets import expected, rows_of

LOAD = """
import datasets, json
rows = datasets.load_dataset({name!r}, split="train"{more})
print(json.dumps([dict(row) for row in rows]))
"""


def face(finished: Finished, token: str | None = None) -> dict[str, str]:
    return {"HF_ENDPOINT": finished.url, "HF_TOKEN": token or finished.secret}


@pytest.mark.parametrize(
    "more", ["", ", streaming=True", ', data_files="selected.jsonl"'], ids=["plain", "stream", "file"]
)
def test_datasets_loads_a_job_by_its_name(finished: Finished, script: Script, more: str) -> None:
    lines = LOAD.format(name=f"spice/{finished.job_id}", more=more)
    assert rows_of(script(lines, face(finished))) == expected(finished)


def test_a_snapshot_holds_every_file_of_one_commit(finished: Finished, script: Script, tmp_path: Path) -> None:
    lines = f"""
import huggingface_hub, json
name = "spice/{finished.job_id}"
info = huggingface_hub.HfApi().dataset_info(name)
folder = huggingface_hub.snapshot_download(name, repo_type="dataset", revision=info.sha)
print(json.dumps([info.sha, folder]))
"""
    sha, folder = json.loads(script(lines, face(finished)).splitlines()[-1])
    listed = finished.service.http.get(f"/v1/jobs/{finished.job_id}/files", headers=finished.headers).json()["data"]
    assert {path.name for path in Path(folder).iterdir()} == {file["name"] for file in listed}
    for file in listed:
        assert hashlib.sha256((Path(folder) / file["name"]).read_bytes()).hexdigest() == file["sha256"]
        if file["name"] == "SHA256SUMS":
            assert file["sha256"].startswith(sha)


def test_nothing_is_told_without_the_right_key(finished: Finished) -> None:
    keys = KeyService(finished.service.runner.database)
    stranger = keys.create(keys.create_project("hub").id, "stranger")[1]
    narrow = keys.create(DEFAULT_PROJECT, "narrow", ["jobs:read"])[1]
    name = f"spice/{finished.job_id}"
    paths = [
        f"/api/datasets/{name}",
        f"/api/datasets/{name}/revision/main",
        f"/api/datasets/{name}/tree/main",
        f"/datasets/{name}/resolve/main/selected.jsonl",
    ]
    http = finished.service.http
    for path in paths:
        for method in ("GET", "HEAD"):
            assert http.request(method, path).status_code == 401, path
            foreign = http.request(method, path, headers={"Authorization": f"Bearer {stranger}"})
            assert (foreign.status_code, foreign.headers["X-Error-Code"]) == (404, "RepoNotFound"), path
            assert http.request(method, path, headers={"Authorization": f"Bearer {narrow}"}).status_code == 403
            assert http.request(method, path, headers=finished.headers).status_code == 200, path
    asked = http.post(
        f"/api/datasets/{name}/paths-info/main", data={"paths": ["README.md", "x"]}, headers=finished.headers
    )
    assert [entry["path"] for entry in asked.json()] == ["README.md"]
    assert http.post(f"/api/datasets/{name}/paths-info/main", data={"paths": ["x"]}).status_code == 401


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/datasets/other/{job}", "RepoNotFound"),
        ("/api/datasets/spice/job_01", "RepoNotFound"),
        ("/api/datasets/spice/job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC/tree/main", "RepoNotFound"),
        ("/api/datasets/spice/{job}/revision/v2", "RevisionNotFound"),
        ("/api/datasets/spice/{job}/tree/main/data", "EntryNotFound"),
        ("/datasets/spice/{job}/resolve/main/spice.db", "EntryNotFound"),
        ("/datasets/spice/{job}/resolve/main/..%2F..%2Fspice.db", "EntryNotFound"),
    ],
)
def test_what_is_missing_is_said_in_the_hubs_words(finished: Finished, path: str, code: str) -> None:
    answer = finished.service.http.get(path.format(job=finished.job_id), headers=finished.headers)
    assert isinstance(answer, httpx.Response)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
