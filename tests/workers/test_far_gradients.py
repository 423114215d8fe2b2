"""Gradients of the service at an address: the same bytes as in the folder, nothing trusted, nothing left behind."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.services.storage.remote_gradients import sweeps
from app.services.storage.retention import Retention
from app.services.workers import WorkerMemory, WorkerService
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.errors import StoreUnreachableError
from spice_select.storage.object_store import ObjectStore
from tests.fixtures.servers import free_port
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.background.remote_sweep import sweep_remote
from workers.run_unit import UnitRunner
from workers.storage.gradient_store import GradientStore

COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")
SMALL = {"sketch_dim": 4, "max_length": 128}


class Killed(BaseException):
    """The process ends here: nothing after this is done, nothing is recorded."""


def at_s3(endpoint: str, folder: Path, *, made: bool = True) -> dict[str, Any]:
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    if made:
        assert httpx.put(f"{endpoint}/{bucket}").status_code == 200
    return {
        "gradient_store": f"s3://{bucket}/team",
        "s3_endpoint": endpoint,
        "s3_region": "us-east-1",
        "s3_key_id": "k",
        "s3_secret": "s",
        "gradient_copies_dir": folder / "copies",
    }


@pytest.fixture
def far(sqlite_url: str, s3: str, tmp_path: Path) -> Iterator[InProcessService]:
    """The service with its gradients on S3."""
    with InProcessService(sqlite_url, tmp_path / "far", **at_s3(s3, tmp_path)) as running:
        yield running


def objects(service: InProcessService) -> dict[str, bytes]:
    store = service.runner.resources.shards.remote
    return {name: store._system.cat_file(f"{store._root}/{name}") for name in store.ages()}


def overwrite(service: InProcessService, name: str, payload: bytes) -> None:
    store = service.runner.resources.shards.remote
    store._system.pipe_file(f"{store._root}/{name}", payload)


def digests(service: InProcessService) -> list[str]:
    query = "SELECT artifact_sha256 FROM unit_commit WHERE artifact_sha256 IS NOT NULL ORDER BY unit_id, generation"
    with service.runner.database.read() as session:
        return list(session.scalars(text(query)))


def second_worker(service: InProcessService, folder: Path) -> UnitRunner:
    settings = service.settings.model_copy(update={"gradient_copies_dir": folder})
    return UnitRunner(settings, "second", threading.Event())


def step(runner: UnitRunner) -> bool:
    claim = runner.units.claim_next(runner.owner)
    if claim is not None:
        runner.run_claim(claim)
    return claim is not None


def files(service: InProcessService, job_id: str) -> list[bytes]:
    job = service.job(job_id)
    assert job["status"] == "succeeded", job
    return [service.http.get(f"/v1/jobs/{job_id}/files/{name}").content for name in COMPARED]


def events(service: InProcessService, job_id: str, kind: str) -> list[dict[str, Any]]:
    found = service.http.get(f"/v1/jobs/{job_id}/events?limit=200").json()["data"]
    return [event["data"] for event in found if event["type"] == kind]


def in_folder(sqlite_url: str, folder: Path, **body: Any) -> tuple[list[bytes], list[str]]:
    """What comes of the same with the gradients in the shared folder."""
    path = folder / "reference.db"
    path.write_bytes(Path(sqlite_url.removeprefix("sqlite:///")).read_bytes())
    with InProcessService(f"sqlite:///{path}", folder / "data") as service:
        job = posted(service, **body)
        service.drain()
        return files(service, job["id"]), digests(service)


def posted(service: InProcessService, **body: Any) -> dict[str, Any]:
    dataset = service.push(jsonl(sums(24)))["id"]
    if body.get("method") == "less":
        body["target_dataset_id"] = service.push(jsonl(sums(9, start=100)), "target.jsonl")["id"]
    return service.submit(dataset, **{"gradients": SMALL, **body})


def test_a_choice_over_s3_is_the_one_over_the_folder(
    any_database_url: str, sqlite_url: str, s3: str, tmp_path: Path
) -> None:
    wanted, shards = in_folder(sqlite_url, tmp_path)
    with InProcessService(any_database_url, tmp_path / "far", **at_s3(s3, tmp_path)) as service:
        job = posted(service)
        service.drain()
        assert files(service, job["id"]) == wanted
        assert digests(service) == shards
        [(name, payload)] = objects(service).items()
        assert hashlib.sha256(payload).hexdigest() == shards[0]
        assert name.startswith(f"prj_default/{shards[0][:2]}/{shards[0]}-") or shards[0] in name
        assert not [path for path in (tmp_path / "far").rglob("*") if path.name == shards[0]], "not in the folder too"
        with service.runner.database.read() as session:
            [result] = session.scalars(text("SELECT result FROM unit_commit WHERE artifact_sha256 IS NOT NULL"))
        stored = json.loads(result) if isinstance(result, str) else result
        assert (stored["object"], stored["bytes"]) == (name, len(payload))

        # Whoever comes later, on this machine or on another, measures nothing.
        again = service.submit(job["dataset_id"], gradients=SMALL, budget={"count": 5})
        assert again["gradients_reused"]
        other = second_worker(service, tmp_path / "elsewhere")
        while step(other):
            pass
        other.database.dispose()
        assert service.job(again["id"])["result"]["selected"] == 5
        assert [p.name for p in (tmp_path / "elsewhere" / "objects").rglob("*") if p.is_file()] == shards
        assert list(objects(service)) == [name]
        assert list((tmp_path / "elsewhere" / "pins").iterdir()) == []
        assert list((tmp_path / "elsewhere" / "tmp").iterdir()) == []
        estimate = service.http.post(
            "/v1/estimates", json={"dataset_id": job["dataset_id"], "budget": {"count": 3}, "gradients": SMALL}
        ).json()
        assert estimate["disk"]["free"] is None


def test_two_workers_on_two_machines_choose_the_same(sqlite_url: str, s3: str, tmp_path: Path) -> None:
    wanted, shards = in_folder(sqlite_url, tmp_path, method="less")
    with InProcessService(sqlite_url, tmp_path / "far", **at_s3(s3, tmp_path)) as service:
        job = posted(service, method="less")
        other = second_worker(service, tmp_path / "elsewhere")
        assert step(other), "one shard here"
        assert step(service.runner), "one there"
        assert step(other), "and the choice from both"
        assert not step(service.runner)
        other.database.dispose()
        assert files(service, job["id"]) == wanted
        assert sorted(digests(service)) == sorted(shards)
        assert len(objects(service)) == 2


@pytest.mark.parametrize("fault", ["flipped", "gone"])
def test_an_object_that_is_not_what_it_should_be_is_made_again_once(
    far: InProcessService, tmp_path: Path, fault: str
) -> None:
    job = posted(far)
    far.drain()
    wanted, [shard] = files(far, job["id"]), digests(far)
    [(name, payload)] = objects(far).items()
    changed = bytearray(payload)
    changed[-3] ^= 1
    if fault == "gone":
        far.runner.resources.shards.remote.remove([name])
    else:
        overwrite(far, name, bytes(changed))
    again = far.submit(job["dataset_id"], gradients=SMALL)
    other = second_worker(far, tmp_path / "elsewhere")
    while step(other):
        pass
    other.database.dispose()
    assert files(far, again["id"]) == wanted
    assert len(events(far, again["id"], "artifacts.lost")) == 1
    assert digests(far) == [shard, shard], "the same bytes again, under another name"
    now = objects(far)
    [fresh] = set(now) - {name}
    assert now[fresh] == payload
    assert sweep_remote(far.runner.database, far.runner.resources.shards.remote, 0) == (fault != "gone")
    assert list(objects(far)) == [fresh]


def test_a_copy_that_rots_on_the_machine_is_fetched_again(far: InProcessService, tmp_path: Path) -> None:
    job = posted(far)
    far.drain()
    wanted, [shard] = files(far, job["id"]), digests(far)
    [copy] = [path for path in (tmp_path / "copies" / "objects").rglob("*") if path.is_file()]
    rotten = bytearray(copy.read_bytes())
    rotten[-1] ^= 1
    copy.write_bytes(bytes(rotten))
    again = far.submit(job["dataset_id"], gradients=SMALL)
    far.drain()
    assert files(far, again["id"]) == wanted
    assert events(far, again["id"], "artifacts.lost") == []
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == shard
    assert digests(far) == [shard]


def test_a_worker_killed_before_its_commit_leaves_nothing_for_good(
    any_database_url: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**at_s3(s3, tmp_path), "lease_seconds": 3}
    with InProcessService(any_database_url, tmp_path / "far", **settings) as service:
        job = posted(service)

        def killed(*_: Any) -> bool:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(service.runner, "commit", killed)
            with pytest.raises(Killed):
                step(service.runner)
        [orphan] = objects(service)
        overwrite(service, "notes/of-somebody-else.txt", b"not ours")
        database, store = service.runner.database, service.runner.resources.shards.remote
        assert sweep_remote(database, store, 3600) == 0, "its record may be on the way"
        deadline = threading.Event()
        while service.job(job["id"])["status"] != "succeeded":
            step(service.runner)
            deadline.wait(0.05)
        assert len(objects(service)) == 3
        assert sweep_remote(database, store, 0) == 1
        assert len(objects(service)) == 2
        assert orphan not in objects(service)
        assert "notes/of-somebody-else.txt" in objects(service), "only what workers wrote is swept"
        again = service.submit(job["dataset_id"], gradients=SMALL)
        service.drain()
        assert files(service, again["id"]) == files(service, job["id"])
        assert sweep_remote(database, store, 0) == 0


def test_gradients_that_expire_are_swept_and_made_again_when_wanted(
    any_database_url: str, s3: str, tmp_path: Path
) -> None:
    settings = {**at_s3(s3, tmp_path), "gradient_days": 1e-9}
    with InProcessService(any_database_url, tmp_path / "far", **settings) as service:
        job = posted(service)
        service.drain()
        database, store = service.runner.database, service.runner.resources.shards.remote
        assert sweep_remote(database, store, 0) == 0, "a record names it"
        retention = Retention(database, ArtifactStore(service.settings.data_dir), service.settings)
        assert retention.sweep()["gradient_sets_expired"] == 1
        assert len(objects(service)) == 1, "what the API and the dispatcher do touches no object"
        assert sweep_remote(database, store, 0) == 1
        assert objects(service) == {}
        again = service.submit(job["dataset_id"], gradients=SMALL)
        assert not again["gradients_reused"]
        service.drain()
        assert files(service, again["id"]) == files(service, job["id"])
        assert len(objects(service)) == 1


def test_after_its_gradients_expired_a_deleted_data_set_has_left_nothing_at_either_place(
    sqlite_url: str, s3: str, tmp_path: Path
) -> None:
    warmed = {**SMALL, "targets": "lora", "lora_rank": 2, "warmup_steps": 2}
    wanted, _ = in_folder(sqlite_url, tmp_path, gradients=warmed)
    with InProcessService(sqlite_url, tmp_path / "far", gradient_days=1e-9, **at_s3(s3, tmp_path)) as service:
        job = posted(service, gradients=warmed)
        other = second_worker(service, tmp_path / "elsewhere")
        assert step(other), "the warm-up here, its weights in the folder that both share"
        assert step(service.runner), "a shard there"
        assert step(other), "the choice"
        other.database.dispose()
        assert files(service, job["id"]) == wanted
        assert len(objects(service)) == 1
        kept = [path for path in (tmp_path / "far" / "objects").rglob("*") if path.is_file()]
        assert set(digests(service)) & {path.name for path in kept}, "the weights"
        assert service.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert service.http.delete(f"/v1/datasets/{job['dataset_id']}").status_code == 204
        database = service.runner.database
        Retention(database, ArtifactStore(service.settings.data_dir), service.settings).sweep()
        assert sweep_remote(database, service.runner.resources.shards.remote, 0) == 1
        assert objects(service) == {}
        assert [path for path in (tmp_path / "far" / "objects").rglob("*") if path.is_file()] == []


def test_a_bucket_that_does_not_answer_fails_the_job_with_a_code(sqlite_url: str, tmp_path: Path) -> None:
    settings = {**at_s3(f"http://127.0.0.1:{free_port()}", tmp_path, made=False), "max_attempts": 2}
    with InProcessService(sqlite_url, tmp_path / "far", **settings) as service:
        job = posted(service)
        service.drain()
        done = service.job(job["id"])
        assert (done["status"], done["error"]["code"]) == ("failed", "store-unreachable")
        assert [event["again"] for event in events(service, job["id"], "unit.failed")] == [True, False]
        assert "s3://" not in done["error"]["detail"] or "bucket" in done["error"]["detail"]


def test_no_bucket_is_made(s3: str, tmp_path: Path) -> None:
    store = GradientStore(Settings(**at_s3(s3, tmp_path, made=False)), ArtifactStore(tmp_path / "data"))
    with store.scratch() as path:
        path.write_bytes(b"x")
        with pytest.raises(StoreUnreachableError):
            store.add("prj", path, hashlib.sha256(b"x").hexdigest())
    assert not store.remote.is_there()


def test_a_bucket_that_is_gone_costs_no_gradients(far: InProcessService, tmp_path: Path) -> None:
    job = posted(far)
    far.drain()
    store = far.runner.resources.shards.remote
    store.remove(list(objects(far)))
    store._system.rmdir(store._root.partition("/")[0])
    other = second_worker(far, tmp_path / "elsewhere")
    again = far.submit(job["dataset_id"], gradients=SMALL)
    for _ in range(far.settings.max_attempts):
        assert step(other)
    assert not step(other)
    other.database.dispose()
    assert far.job(again["id"])["error"]["code"] == "store-unreachable"
    assert events(far, again["id"], "artifacts.lost") == []


def test_records_from_before_and_after_the_address_was_set_go_together(
    sqlite_url: str, s3: str, tmp_path: Path
) -> None:
    with InProcessService(sqlite_url, tmp_path / "data") as before:
        job = posted(before)
        before.drain()
        wanted = files(before, job["id"])
    with InProcessService(sqlite_url, tmp_path / "data", **at_s3(s3, tmp_path)) as service:
        again = service.submit(job["dataset_id"], gradients=SMALL)
        assert again["gradients_reused"]
        fresh = service.submit(job["dataset_id"], gradients={**SMALL, "seed": 1})
        service.drain()
        assert files(service, again["id"]) == wanted
        files(service, fresh["id"])
    with InProcessService(sqlite_url, tmp_path / "data", max_attempts=1) as without:
        lost = without.submit(job["dataset_id"], gradients={**SMALL, "seed": 1})
        without.runner.resources.shards.copies = None
        without.drain()
        ended = without.job(lost["id"])
        assert ended["error"]["code"] == "store-unreachable"
        assert "SPICE_GRADIENT_STORE is not set" in ended["error"]["detail"]


def test_one_of_the_workers_sweeps(any_database_url: str, tmp_path: Path) -> None:
    with InProcessService(any_database_url, tmp_path / "data") as service:
        database = service.runner.database
        assert not sweeps(database, "a:1"), "nobody has said that he lives"
        for name in ("b:1", "a:1"):
            WorkerService(database).register(WorkerMemory(name, 1, 1))
        assert [name for name in ("a:1", "b:1", "c:1") if sweeps(database, name)] == ["a:1"]
        WorkerService(database).deregister("a:1")
        assert sweeps(database, "b:1")


def test_every_wait_for_s3_is_bounded(s3: str, tmp_path: Path) -> None:
    settings = Settings(**at_s3(s3, tmp_path))
    store = GradientStore(settings, None)  # type: ignore[arg-type]
    assert isinstance(store.remote, ObjectStore)
    config = store.remote._system.config_kwargs
    assert 0 < config["connect_timeout"] <= 15
    assert 0 < config["read_timeout"] <= 60
