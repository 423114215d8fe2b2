"""Deleting jobs, and removing what nobody needs any more: never anything that somebody does."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import Artifacts, GradientSets, Jobs
from app.persistence.session import Database
from app.persistence.tables import Job
from app.services.storage.retention import Retention
from app.storage import ArtifactStore
from spice_select.results.signature import ENVELOPE_FILE
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.heartbeat import Heartbeat

OLD_SECONDS = 7200.0
SECONDS = 20.0


def stored(service: InProcessService) -> set[str]:
    """Digests of every artifact."""
    return {path.name for path in (service.settings.data_dir / "objects").rglob("*") if path.is_file()}


def finished(service: InProcessService, dataset: str, **body: Any) -> dict[str, Any]:
    job = service.submit(dataset, **body)
    service.drain()
    found = service.job(job["id"])
    assert found["status"] == "succeeded", found["error"]
    return found


def codes(service: InProcessService, path: str, **headers: str) -> tuple[int, str | None]:
    answer = service.http.delete(path, headers=headers)
    return answer.status_code, answer.json()["code"] if answer.content else None


def test_a_deleted_job_is_gone_with_its_files_and_keeps_its_history(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))["id"]
    queued = any_service.submit(dataset, name="private", metadata={"team": "search"})
    path = f"/v1/jobs/{queued['id']}"
    assert codes(any_service, path) == (409, "conflict-state")
    before = stored(any_service)
    any_service.drain()
    files = any_service.http.get(f"{path}/files").json()["data"]
    made = stored(any_service)
    # The signature is made when it is asked for, and kept nowhere.
    results = {file["sha256"] for file in files if file["name"] != ENVELOPE_FILE}
    assert results <= made - before
    job = any_service.job(queued["id"])
    assert codes(any_service, path, **{"If-Match": f'W/"{job["version"] - 1}"'}) == (412, "precondition-failed")
    assert codes(any_service, path, **{"If-Match": f'W/"{job["version"]}"'}) == (204, None)
    assert codes(any_service, path) == (204, None), "a repeated call is no error"
    assert codes(any_service, "/v1/jobs/job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC") == (404, "not-found")
    assert stored(any_service) == made - results, "the gradients stay, the result does not"
    for place in ("", "/files", "/files/selected.jsonl", "/selection", "/events", "/provenance"):
        assert any_service.http.get(path + place).status_code == 404, place
    assert any_service.http.patch(path, json={"name": "x"}).status_code == 404
    assert any_service.http.post(f"{path}/cancel").status_code == 404
    assert any_service.http.get("/v1/jobs").json()["data"] == []
    told = any_service.http.get("/v1/events", params={"limit": 1000}).json()["data"]
    assert told[-1]["type"] == "job.deleted"
    assert told[-1]["job_id"] == queued["id"]
    again = any_service.submit(dataset)
    assert again["gradients_reused"] is True
    any_service.drain()
    assert any_service.job(again["id"])["result"]["selected"] == job["result"]["selected"]
    metrics = any_service.http.get("/metrics").text
    assert 'spice_jobs{status="succeeded"} 1.0' in metrics


def test_a_worker_that_holds_a_unit_of_a_deleted_job_lets_go_of_it(
    any_service: InProcessService,
) -> None:
    dataset = any_service.push(jsonl(sums(8)))["id"]
    first = finished(any_service, dataset)
    held_out = any_service.push(jsonl(sums(6, 900)))["id"]
    runner = any_service.runner
    for path, body in (
        ("/v1/jobs", {"dataset_id": dataset, "budget": {"count": 2}, "gradients": first["config"]["gradients"]}),
        ("/v1/evaluations", {"job_id": first["id"], "holdout_dataset_id": held_out, "seeds": 2}),
    ):
        made = any_service.http.post(path, json=body)
        assert made.status_code == 202, made.text
        claim = runner.units.claim_next("slow")
        assert claim is not None
        assert any_service.http.post(f"{path}/{made.json()['id']}/cancel").status_code == 202
        runner.units.release(claim)
        runner.units.sweep()
        doomed = made.json()["id"] if path == "/v1/jobs" else first["id"]
        assert codes(any_service, f"/v1/jobs/{doomed}") == (204, None)
        with Heartbeat(runner.units, claim, runner.settings, threading.Event()) as heartbeat:
            assert runner._guarded(claim, heartbeat) == "stale"
    assert any_service.drain() == 0, "nothing is left to do"


def test_no_copy_of_a_row_outlives_its_job_and_its_data_set(service: InProcessService) -> None:
    """Cut files, page previews, uploads, logs: nothing below the folder or in the database still holds the row."""
    marker = "a marker that no other row has, 8f1c"
    rows = [{"prompt": f"{marker} {i}", "completion": f"{marker} {i}"} for i in range(12)]
    dataset = service.push(jsonl(rows))["id"]
    job = finished(service, dataset, budget={"count": 6}, metadata={"note": "kept by nobody"})
    for name in ("selected.jsonl", "selected.parquet", "ranking.parquet"):
        assert service.http.get(f"/v1/jobs/{job['id']}/files/{name}?k=3").status_code == 200
    assert service.http.get(f"/ui/jobs/{job['id']}").status_code == 200
    assert codes(service, f"/v1/jobs/{job['id']}") == (204, None)
    assert codes(service, f"/v1/datasets/{dataset}") == (204, None)
    sweeper(service, artifact_grace_seconds=0.0).sweep()
    assert not [path for path in (service.settings.data_dir / "prefixes").rglob("*") if path.is_file()]
    holders = [
        path for path in service.settings.data_dir.rglob("*") if path.is_file() and marker.encode() in path.read_bytes()
    ]
    assert not holders


def test_an_archive_goes_with_its_job_and_copies_with_a_lost_file(service: InProcessService) -> None:
    dataset = service.push(jsonl([{"prompt": f"q {i}", "completion": f"a {i}"} for i in range(12)]))["id"]
    first, second = (finished(service, dataset, budget={"count": 6}, name=name) for name in ("one", "two"))
    for job in (first, second):
        archive = service.http.get(f"/v1/jobs/{job['id']}/files/archive.zip")
        assert archive.status_code == 200
        assert all(name.startswith(job["id"]) for name in zipfile.ZipFile(io.BytesIO(archive.content)).namelist())

    def archives() -> list[Path]:
        return list((service.settings.data_dir / "prefixes").rglob("*-archive-*"))

    assert len(archives()) == 2, "the same rows under two jobs are two archives"
    assert codes(service, f"/v1/jobs/{first['id']}") == (204, None)
    sweeper(service, artifact_grace_seconds=0.0).sweep()
    assert len(archives()) == 1
    statement = archives()[0].name.partition("-archive-")[0]
    next(path for path in service.settings.data_dir.rglob(statement) if path.is_file()).unlink()
    assert codes(service, f"/v1/jobs/{second['id']}") == (204, None)
    sweeper(service, artifact_grace_seconds=0.0).sweep()
    assert not archives(), "the file was lost, and what was made of it goes all the same"


def test_a_file_that_another_result_has_as_well_stays(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))["id"]
    one, other = finished(any_service, dataset), finished(any_service, dataset)
    names = {
        job["id"]: {
            file["name"]: file["sha256"] for file in any_service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]
        }
        for job in (one, other)
    }
    assert names[one["id"]]["selected.jsonl"] == names[other["id"]]["selected.jsonl"]
    assert codes(any_service, f"/v1/jobs/{one['id']}") == (204, None)
    for name in names[other["id"]]:
        assert any_service.http.get(f"/v1/jobs/{other['id']}/files/{name}").status_code == 200, name
    assert set(names[one["id"]].values()) & stored(any_service) == set(names[other["id"]].values()) & set(
        names[one["id"]].values()
    )


def test_a_job_whose_choice_another_one_needs_stays_until_that_has_ended(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(10)))["id"]
    first = finished(any_service, dataset)
    path = f"/v1/jobs/{first['id']}"
    next_ = any_service.submit(dataset, given_job=first["id"])
    assert codes(any_service, path) == (409, "job-in-use")
    any_service.drain()
    assert any_service.job(next_["id"])["status"] == "succeeded"
    assert codes(any_service, path) == (204, None)
    body = {"dataset_id": dataset, "budget": {"count": 3}, "gradients": {"sketch_dim": 4, "max_length": 128}}
    late = any_service.http.post("/v1/jobs", json={**body, "given_job": first["id"]})
    assert (late.status_code, late.json()["errors"][0]["pointer"]) == (404, "#/given_job")


def test_a_job_is_not_deleted_under_one_that_is_being_made_on_its_choice(postgres_service: InProcessService) -> None:
    dataset = postgres_service.push(jsonl(sums(8)))["id"]
    job = finished(postgres_service, dataset)
    database = Database(str(postgres_service.settings.database_url))
    answers: list[int] = []
    with database.write() as session:
        assert Jobs(session).hold(DEFAULT_PROJECT, job["id"]) is not None
        deleting = threading.Thread(
            target=lambda: answers.append(postgres_service.http.delete(f"/v1/jobs/{job['id']}").status_code)
        )
        deleting.start()
        deleting.join(0.3)
        assert not answers, "it went away under a transaction that counts on it"
    deleting.join(SECONDS)
    database.dispose()
    assert answers == [204]


def sweeper(service: InProcessService, store: ArtifactStore | None = None, **changes: Any) -> Retention:
    settings = service.settings.model_copy(update=changes)
    return Retention(service.runner.database, store or service.runner.store, settings)


def test_gradients_that_no_job_has_needed_for_long_go_and_come_back(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(8)))["id"]
    job = finished(any_service, dataset)
    ranking = any_service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    before = stored(any_service)
    assert sweeper(any_service).sweep() == {"gradient_sets_expired": 0, "artifacts_removed": 0}, "off by default"
    assert sweeper(any_service, gradient_days=30.0).sweep()["gradient_sets_expired"] == 0, "used a moment ago"
    waiting = any_service.submit(dataset)
    time.sleep(0.05)
    soon = sweeper(any_service, gradient_days=1e-7)
    assert soon.sweep()["gradient_sets_expired"] == 0, "a job that has not ended needs them"
    any_service.drain()
    assert any_service.job(waiting["id"])["status"] == "succeeded"
    time.sleep(0.05)
    assert soon.sweep() == {"gradient_sets_expired": 1, "artifacts_removed": 1}
    assert len(before - stored(any_service)) == 1
    assert any_service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()["status"] == "expired"
    assert any_service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").status_code == 200
    again = any_service.submit(dataset)
    assert again["gradients_reused"] is False
    any_service.drain()
    assert any_service.http.get(f"/v1/jobs/{again['id']}/selection").json()["data"] == ranking
    assert before <= stored(any_service)


def test_gradients_do_not_expire_under_a_job_that_is_being_made(postgres_service: InProcessService) -> None:
    dataset = postgres_service.push(jsonl(sums(8)))["id"]
    job = finished(postgres_service, dataset)
    shown = postgres_service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()
    time.sleep(0.05)
    database = Database(str(postgres_service.settings.database_url))
    expired: list[int] = []
    with database.write() as session:
        GradientSets(session).join(DEFAULT_PROJECT, shown["fingerprint"])
        soon = sweeper(postgres_service, gradient_days=1e-7)
        sweeping = threading.Thread(target=lambda: expired.append(soon.expire()))
        sweeping.start()
        sweeping.join(0.3)
        assert not expired, "it did not wait for whoever wants the gradients"
        # What the one who has joined the set does there: a job comes to be that has not ended.
        session.execute(update(Job).where(Job.id == job["id"]).values(status="queued"))
    sweeping.join(SECONDS)
    database.dispose()
    assert expired == [0]
    assert postgres_service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()["status"] == "ready"


class Watched(ArtifactStore):
    """A store in which something happens at the worst moment: before or after a file is moved aside."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def take_out(self, project_id: str, sha256: str, folder: Path) -> Path | None:
        self.before()
        taken = super().take_out(project_id, sha256, folder)
        self.after()
        return taken


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_file_that_is_written_again_while_it_is_being_removed_stays(service: InProcessService, moment: str) -> None:
    store, database = Watched(service.settings.data_dir), service.runner.database
    with store.scratch() as folder:
        (folder / "a").write_bytes(b"the same bytes")
        digest = store.add(DEFAULT_PROJECT, folder / "a")
    os.utime(store.path(DEFAULT_PROJECT, digest), (time.time() - OLD_SECONDS,) * 2)
    with database.write() as session:
        Artifacts(session).mark_obsolete(DEFAULT_PROJECT, [digest])

    def write_again() -> None:
        with store.scratch() as folder:
            (folder / "b").write_bytes(b"the same bytes")
            store.add(DEFAULT_PROJECT, folder / "b")

    setattr(store, moment, write_again)
    retention = sweeper(service, store, artifact_grace_seconds=3600.0)
    retention.remove()
    assert store.intact(DEFAULT_PROJECT, digest).is_file()
    store.before = store.after = lambda: None
    os.utime(store.path(DEFAULT_PROJECT, digest), (time.time() - OLD_SECONDS,) * 2)
    # Nobody ever named it: what was moved back is looked at again, what was written after the removal is not known.
    assert retention.remove() == (1 if moment == "before" else 0)


def test_a_file_that_is_named_while_it_is_being_removed_stays(service: InProcessService) -> None:
    job = finished(service, service.push(jsonl(sums(8)))["id"])
    store, database = Watched(service.settings.data_dir), service.runner.database
    with store.scratch() as folder:
        (folder / "a").write_bytes(b"a result")
        digest = store.add(DEFAULT_PROJECT, folder / "a")
    with database.write() as session:
        Artifacts(session).mark_obsolete(DEFAULT_PROJECT, [digest])

    def name_it() -> None:
        row = {"name": "late.txt", "media_type": "text/plain", "bytes": 8, "sha256": digest}
        with database.write() as session:
            Jobs(session).add_files(job["id"], DEFAULT_PROJECT, [row])

    store.after = name_it
    assert sweeper(service, store).remove() == 0
    assert store.intact(DEFAULT_PROJECT, digest).is_file()
    assert service.http.get(f"/v1/jobs/{job['id']}/files/late.txt").content == b"a result"


def test_a_young_file_waits_until_it_is_old_enough(service: InProcessService) -> None:
    store, database = service.runner.store, service.runner.database
    with store.scratch() as folder:
        (folder / "a").write_bytes(b"young")
        digest = store.add(DEFAULT_PROJECT, folder / "a")
    with database.write() as session:
        Artifacts(session).mark_obsolete(DEFAULT_PROJECT, [digest])
    retention = sweeper(service, artifact_grace_seconds=3600.0)
    assert retention.remove() == 0
    os.utime(store.path(DEFAULT_PROJECT, digest), (time.time() - OLD_SECONDS,) * 2)
    assert retention.remove() == 1
    assert retention.remove() == 0
