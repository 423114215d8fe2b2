"""Backup and restore, as docs/operations.md says: the database first, then the folder, taken while work goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from app.persistence.tables import UnitCommit
from spice_select.results.verify import verify_folder
from tests.fixtures.databases import fresh_database, migrate, psycopg_url
from tests.fixtures.servers import PostgresServer
from tests.fixtures.service import InProcessService, jsonl, sums


def pull(service: InProcessService, job_id: str, folder: Path) -> dict[str, bytes]:
    """Every file of a result, as a client keeps them."""
    folder.mkdir()
    files = {}
    for file in service.http.get(f"/v1/jobs/{job_id}/files").json()["data"]:
        content = service.http.get(f"/v1/jobs/{job_id}/files/{file['name']}").content
        (folder / file["name"]).write_bytes(content)
        files[file["name"]] = content
    return files


def run(program: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, env={"PATH": os.defpath, "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stderr


def test_what_was_restored_elsewhere_verifies_and_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_bytes(jsonl(sums(40)))
    body = {"budget": {"count": 6}, "gradients": {"sketch_dim": 4, "max_length": 128}}
    key = {"Idempotency-Key": "before the fire"}
    with PostgresServer() as old, PostgresServer() as new:
        migrate(old.url)
        with InProcessService(old.url, tmp_path / "data", lease_seconds=5) as service:
            dataset = service.push(source.read_bytes())
            finished = [service.submit(dataset["id"], key, **body)]
            finished.append(service.submit(dataset["id"], **{**body, "method": "random"}))
            service.drain()
            before = [pull(service, job["id"], tmp_path / f"before-{n}") for n, job in enumerate(finished)]
            # One job waits and one is in the middle of its gradients when the backup is taken.
            waiting = service.submit(dataset["id"], **{**body, "gradients": {"sketch_dim": 4, "seed": 5}})
            claim = service.runner.units.claim_next("a worker that burns")
            assert claim is not None
            # The database first: a file that a later commit names may be missing, one that this dump names is there.
            run(old.programs / "pg_dump", "-Fc", "-f", str(tmp_path / "spice.dump"), psycopg_url(old.url))
            shutil.copytree(tmp_path / "data", tmp_path / "restored", ignore=shutil.ignore_patterns("scratch*"))
        shutil.rmtree(tmp_path / "data")
        with fresh_database(new.url) as url:
            run(new.programs / "pg_restore", "--no-owner", "--exit-on-error", "-d", psycopg_url(url),
                str(tmp_path / "spice.dump"))  # fmt: skip
            with InProcessService(url, tmp_path / "restored") as service:
                for number, job in enumerate(finished):
                    assert service.job(job["id"])["status"] == "succeeded"
                    folder = tmp_path / f"after-{number}"
                    assert pull(service, job["id"], folder) == before[number]
                    verify_folder(folder, source).raise_if_failed()
                again = service.submit(dataset["id"], key, **body)
                assert again["id"] == finished[0]["id"], "keys are restored as well"
                # The lease of the worker that burned runs out, and the work is done.
                deadline = time.monotonic() + 240
                while service.job(waiting["id"])["status"] in {"queued", "running"} and time.monotonic() < deadline:
                    service.drain()
                    time.sleep(0.2)
                assert service.job(waiting["id"])["status"] == "succeeded"


@pytest.mark.parametrize("missing", ["shard", "result"])
def test_a_backup_that_misses_a_file_says_so_and_makes_again_what_it_can(
    service: InProcessService, missing: str
) -> None:
    dataset = service.push(jsonl(sums(12)))
    job = service.submit(dataset["id"])
    service.drain()
    objects = [path for path in (service.settings.data_dir / "objects").rglob("*") if path.is_file()]
    files = {file["sha256"]: file["name"] for file in service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]}
    if missing == "result":
        lost = next(path for path in objects if files.get(path.name) == "selected.jsonl")
        lost.unlink()
        answer = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl")
        assert (answer.status_code, answer.json()["code"]) == (500, "artifact-lost")
        return
    with service.runner.database.read() as session:
        shards = set(session.scalars(select(UnitCommit.artifact_sha256).where(UnitCommit.artifact_sha256.is_not(None))))
    for path in objects:
        if path.name in shards:
            path.unlink()
    another = service.submit(dataset["id"], budget={"count": 4})
    service.drain()
    assert service.job(another["id"])["status"] == "succeeded", "gradients are computed again"
