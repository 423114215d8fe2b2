"""Stored bytes that have changed are never served with a digest that says otherwise, and a repair works."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from app.errors import ServiceError
from app.services.access.signed_links import SECRET_BYTES, own_secret
from app.storage import ArtifactStore
from tests.fixtures.service import InProcessService, jsonl, sums


def artifact(service: InProcessService, sha256: str) -> Path:
    [path] = (service.settings.data_dir / "objects").rglob(sha256)
    return path


def damage(path: Path) -> bytes:
    """Change one byte and put the time of the last change back, as a failing disk or a careful forger would."""
    intact, times = path.read_bytes(), path.stat()
    path.write_bytes(intact[:-3] + bytes([intact[-3] ^ 1]) + intact[-2:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return intact


def test_a_damaged_file_is_refused_whole_cut_and_linked_and_a_repair_serves_it_again(service: InProcessService) -> None:
    job = service.submit(service.push(jsonl(sums(40)))["id"], budget={"count": 8})
    service.drain()
    listed = {file["name"]: file for file in service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]}
    sha256 = listed["selected.jsonl"]["sha256"]
    whole, path = f"/v1/jobs/{job['id']}/files/selected.jsonl", artifact(service, sha256)
    link = service.http.post(f"{whole}/links", json={"k": 5, "expires_in_seconds": 600}).json()["url"]
    ways = [(whole, {}), (whole, {"Range": "bytes=0-9"}), (f"{whole}?k=5", {}), (link, {})]
    sound = [service.http.get(way, headers=headers) for way, headers in ways]
    assert {answer.status_code for answer in sound} == {200, 206}
    intact = damage(path)
    for way, headers in [*ways, (f"{whole}?k=4", {})]:
        refused = service.http.get(way, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (500, "artifact-corrupt"), way
    events = service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    told = [event["data"] for event in events if event["type"] == "job.file_damaged"]
    assert told == [{"file": "selected.jsonl", "sha256": sha256, "code": "artifact-corrupt"}]
    assert "spice_artifacts_corrupt 0.0" not in service.http.get("/metrics").text
    path.write_bytes(intact)
    again = [service.http.get(way, headers=headers) for way, headers in ways]
    assert [answer.content for answer in again] == [answer.content for answer in sound]


def test_a_damaged_cut_is_made_again(service: InProcessService) -> None:
    job = service.submit(service.push(jsonl(sums(40)))["id"], budget={"count": 8})
    service.drain()
    address = f"/v1/jobs/{job['id']}/files/ranking.parquet?k=3"
    sound = service.http.get(address)
    [cut] = (path for path in (service.settings.data_dir / "prefixes").rglob("*") if path.is_file())
    damage(cut)
    again = service.http.get(address)
    assert again.content == sound.content
    assert again.headers["etag"] == f'"{hashlib.sha256(again.content).hexdigest()}"'


def test_rows_of_a_damaged_shard_are_refused(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(12)))
    for path in (service.settings.data_dir / "objects").rglob("*"):
        if path.is_file():
            damage(path)
    answer = service.http.get(f"/v1/datasets/{dataset['id']}/rows")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact-corrupt")


def test_a_file_is_read_once_while_nothing_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)
    with store.scratch() as folder:
        (folder / "file").write_bytes(b"some bytes")
        sha256 = store.add("proj_1", folder / "file")
    assert store.intact("proj_1", sha256).read_bytes() == b"some bytes"
    monkeypatch.setattr("app.storage.file_sha256", lambda _path: pytest.fail("read again"))
    store.intact("proj_1", sha256)


def test_the_scratch_folder_is_made_again_when_somebody_removed_it(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / "tmp").rmdir()
    with store.scratch() as folder:
        assert folder.is_dir()


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b" " * 64])
def test_a_secret_that_could_be_guessed_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "link-secret").write_bytes(content)
    with pytest.raises(ServiceError) as caught:
        own_secret(tmp_path)
    assert caught.value.code == "secret-unusable"


def test_a_secret_is_whole_and_its_owners_alone(tmp_path: Path) -> None:
    secret = own_secret(tmp_path / "data")
    assert len(secret) >= SECRET_BYTES
    path = tmp_path / "data" / "link-secret"
    path.chmod(0o644)
    assert own_secret(tmp_path / "data") == secret
    assert path.stat().st_mode & 0o777 == 0o600
