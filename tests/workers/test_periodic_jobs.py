"""The schedule ``periodic`` as a job: the bytes of the library, continued after any kill, stopped with what is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

import spice_select as ss
from app.persistence.repositories import scheduling
from app.persistence.tables import Unit
from app.persistence.types import clock
from app.services.storage.checkpoints import sweep_checkpoints
from app.services.units.leases import Claim
from app.services.units.service import UnitService
from app.status import UnitKind
from spice_select.models import proxy as proxy_module
from spice_select.pipeline.run import run
from spice_select.results.verify import verify_folder
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.heartbeat import Heartbeat
from workers.run_unit import UnitRunner
from workers.storage.checkpoints import StoredCheckpoints

ROWS, COUNT, WINDOWS = 40, 10, 5
BODY: dict[str, Any] = {
    "budget": {"count": COUNT},
    "schedule": {"kind": "periodic", "steps_every": 2},
    "selection": {"scope": {"kind": "windows", "size": 8}},
    "gradients": {
        "sketch_dim": 4,
        "max_length": 64,
        "targets": "lora",
        "lora_rank": 2,
        "tuning": {"learning_rate": 1e-2, "step_tokens": 64},
    },
}
WARMED = {**BODY, "gradients": {**BODY["gradients"], "warmup_steps": 2}}
COMPARED = ("selected.jsonl", "selected.parquet", "ranking.parquet", "trace.parquet")


class KilledError(BaseException):
    """The process is gone: nothing it would have done afterwards happens."""


@pytest.fixture
def any_service(any_database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    with InProcessService(any_database_url, tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, bytes], dict[str, Any]]]:
    """What the library makes of it in one process, without and with a warm-up."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "pool.jsonl").write_bytes(jsonl(sums(ROWS)))
    found = {}
    for name, body in (("plain", BODY), ("warmed", WARMED)):
        config = ss.RunConfig.model_validate(
            {
                "gradients": body["gradients"],
                "schedule": body["schedule"],
                "selection": {"budget": body["budget"], **body["selection"]},
            }
        )
        made = run(folder / "pool.jsonl", config, folder / name)
        found[name] = {file: (folder / name / file).read_bytes() for file in COMPARED}, made.summary
    return found


def submit(service: InProcessService, body: dict[str, Any] | None = None) -> dict[str, Any]:
    dataset = service.push(jsonl(sums(ROWS)))
    return service.submit(dataset["id"], **(body or BODY))


def files(service: InProcessService, job_id: str) -> dict[str, bytes]:
    return {name: service.http.get(f"/v1/jobs/{job_id}/files/{name}").content for name in COMPARED}


def folder_of(service: InProcessService, job_id: str) -> Path:
    return service.runner.store.checkpoints(job_id)


def unit_of(service: InProcessService, job_id: str) -> Unit:
    with service.runner.database.read() as session:
        return session.scalars(select(Unit).where(Unit.job_id == job_id, Unit.kind == UnitKind.SELECT)).one()


def lose_lease(service: InProcessService, unit_id: str) -> None:
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == unit_id).values(lease_until=clock(-1)))


def after_window(monkeypatch: pytest.MonkeyPatch, number: int, act: Any) -> list[int]:
    """Do something once the checkpoint of a window is written down; windows that were saved."""
    saved: list[int] = []
    real = StoredCheckpoints.save

    def save(self: StoredCheckpoints, progress: Any, weights: Any) -> None:
        real(self, progress, weights)
        saved.append(len(progress.reports))
        if len(progress.reports) == number:
            act()

    monkeypatch.setattr(StoredCheckpoints, "save", save)
    return saved


def kill() -> None:
    raise KilledError


@pytest.mark.parametrize("name", ["plain", "warmed"])
def test_a_job_chooses_the_bytes_of_the_library(
    any_service: InProcessService,
    alone: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    tmp_path: Path,
    name: str,
) -> None:
    service = any_service
    job = submit(service, WARMED if name == "warmed" else BODY)
    assert job["config"]["schedule"] == {"kind": "periodic", "steps_every": 2}
    assert service.drain() == (2 if name == "warmed" else 1)
    ended = service.job(job["id"])
    assert ended["status"] == "succeeded", ended
    expected, summary = alone[name]
    assert files(service, job["id"]) == expected
    for number in ("schedule", "utility", "certificate", "stop_reason", "tokens_selected", "warmup"):
        assert ended["result"].get(number) == summary.get(number), number
    assert ended["result"]["schedule"]["windows_done"] == WINDOWS
    assert ended["result"]["random_control"]["utility"] == summary["random_control"]["utility"]
    assert set(ended["result"]["seconds"]) >= {"queued", "loading_model", "choosing_windows", "writing_files"}
    assert ended["gradients_reused"] is False
    assert not folder_of(service, job["id"]).exists(), "nothing is left of the checkpoints"
    service.pull(job["id"], tmp_path / "out")
    report = verify_folder(tmp_path / "out")
    assert report.ok, [check for check in report.checks if not check.ok]
    cut = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl?k=3")
    assert (cut.status_code, cut.json()["code"]) == (422, "prefix-undefined")
    found = service.http.get(f"/v1/gradient-sets/{job['gradient_set_id']}").json()
    assert (found["status"], found["num_shards"], found["config"]["schedule"]["kind"]) == ("ready", 0, "periodic")


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_killed_after_any_window_another_worker_goes_on_to_the_same_bytes(
    any_service: InProcessService,
    alone: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    window: int,
) -> None:
    job = submit(any_service, WARMED)
    with monkeypatch.context() as doomed:
        after_window(doomed, window, kill)
        with pytest.raises(KilledError):
            any_service.drain()
    unit = unit_of(any_service, job["id"])
    assert unit.checkpoint is not None
    assert unit.checkpoint["windows"] == window
    assert len(list(folder_of(any_service, job["id"]).iterdir())) == (1 if window == 1 else 2)
    lose_lease(any_service, unit.id)
    other = UnitRunner(any_service.settings, "another-worker", threading.Event())
    saved = after_window(monkeypatch, 99, kill)
    assert other.run(unit.id)
    assert saved == list(range(window + 1, WINDOWS + 1)), "no window is chosen from twice"
    assert files(any_service, job["id"]) == alone["warmed"][0]
    assert unit_of(any_service, job["id"]).lost_leases == 1
    other.database.dispose()


@pytest.mark.parametrize("harm", ["deleted", "flipped"])
def test_a_checkpoint_that_cannot_be_trusted_costs_time_and_no_bit(
    service: InProcessService,
    alone: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    harm: str,
) -> None:
    job = submit(service)
    with monkeypatch.context() as doomed:
        after_window(doomed, 3, kill)
        with pytest.raises(KilledError):
            service.drain()
    unit = unit_of(service, job["id"])
    assert unit.checkpoint is not None
    path = folder_of(service, job["id"]) / unit.checkpoint["weights"]
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    lose_lease(service, unit.id)
    saved = after_window(monkeypatch, 99, kill)
    assert service.drain() == 1
    assert saved == list(range(1, WINDOWS + 1))
    assert files(service, job["id"]) == alone["plain"][0]


def test_a_worker_that_lost_its_lease_changes_nothing_of_the_one_that_has_it(
    service: InProcessService,
    alone: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = submit(service)
    claim = service.runner.units.claim_next("slow")
    assert claim is not None
    woken: list[dict[str, Any]] = []

    def overtaken() -> None:
        """While the slow one sleeps another takes over and is half way through."""
        if woken:
            return
        woken.append({})
        lose_lease(service, claim.unit_id)
        other = UnitRunner(service.settings, "fast", threading.Event())
        with monkeypatch.context() as inner:
            after_window(inner, 4, kill)
            with pytest.raises(KilledError):
                other.run(claim.unit_id)
        other.database.dispose()
        woken[0] = dict(unit_of(service, job["id"]).checkpoint or {})

    after_window(monkeypatch, 2, overtaken)
    service.runner.run_claim(claim)
    unit = unit_of(service, job["id"])
    assert (unit.owner, unit.checkpoint) == ("fast", woken[0])
    kept = {path.name for path in folder_of(service, job["id"]).iterdir() if not path.name.startswith("draft")}
    assert {woken[0]["progress"], woken[0]["weights"]} <= kept, "what counts is still there"
    lose_lease(service, unit.id)
    assert service.drain() == 1
    assert files(service, job["id"]) == alone["plain"][0]


@pytest.mark.parametrize("outcome", ["cancelled", "expired"])
def test_a_stop_keeps_the_windows_that_are_done(
    any_service: InProcessService, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    service = any_service
    job = submit(service)

    def stop() -> None:
        if outcome == "cancelled":
            assert service.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
        else:
            with service.runner.database.write() as session:
                session.execute(update(scheduling.Job).values(deadline_at=clock(-1)))
            service.runner.units.sweep()
        assert service.job(job["id"])["status"] == "cancelling"
        heard.wait(20)

    heard = threading.Event()
    real = Heartbeat._beat

    def beat(self: Heartbeat) -> None:
        real(self)
        if self.stop is not None:
            heard.set()

    monkeypatch.setattr(Heartbeat, "_beat", beat)
    after_window(monkeypatch, 2, stop)
    assert service.drain() == 1
    ended = service.job(job["id"])
    assert (ended["status"], ended["partial"]) == (outcome, True)
    assert ended["result"]["schedule"]["windows_done"] == 2
    assert ended["result"]["stop_reason"] == {"cancelled": "cancelled", "expired": "deadline"}[outcome]
    assert ended["result"]["selected"] == 4
    assert len(service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").text.splitlines()) == 4


def test_a_worker_that_goes_down_gives_the_choice_back_with_its_checkpoint(
    service: InProcessService,
    alone: dict[str, tuple[dict[str, bytes], dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = submit(service)
    with monkeypatch.context() as ending:
        after_window(ending, 3, service.runner.shutdown.set)
        claim = service.runner.units.claim_next(service.runner.owner)
        assert claim is not None
        service.runner.run_claim(claim)
    unit = unit_of(service, job["id"])
    assert (unit.state, unit.attempts, (unit.checkpoint or {})["windows"]) == ("pending", 0, 3)
    service.runner.shutdown.clear()
    saved = after_window(monkeypatch, 99, kill)
    assert service.drain() == 1
    assert saved == [4, 5]
    assert files(service, job["id"]) == alone["plain"][0]


def test_what_a_stopped_job_left_on_the_disk_is_swept(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(service)
    with monkeypatch.context() as doomed:
        after_window(doomed, 1, kill)
        with pytest.raises(KilledError):
            service.drain()
    assert sweep_checkpoints(service.runner.database, service.runner.store) == 0, "it may still be continued"
    lose_lease(service, unit_of(service, job["id"]).id)
    assert service.http.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    service.runner.units.sweep()
    assert service.job(job["id"])["status"] == "cancelled"
    assert sweep_checkpoints(service.runner.database, service.runner.store) == 1
    assert not folder_of(service, job["id"]).exists()


def test_progress_counts_the_samples_of_all_windows(service: InProcessService, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(service)
    seen: list[dict[str, Any]] = []

    def look() -> None:
        seen.append(service.job(job["id"]))

    real = UnitService.keep

    def keep(self: UnitService, claim: Claim, checkpoint: dict[str, Any]) -> bool:
        held = real(self, claim, checkpoint)
        beats[0]._beat()
        look()
        return held

    beats: list[Heartbeat] = []
    enter = Heartbeat.__enter__

    def entered(self: Heartbeat) -> Heartbeat:
        beats[:] = [self]
        return enter(self)

    monkeypatch.setattr(Heartbeat, "__enter__", entered)
    monkeypatch.setattr(UnitService, "keep", keep)
    assert service.drain() == 1
    assert {view["phase"] for view in seen} == {"choosing_windows"}
    counts = [(view["progress"]["completed"], view["progress"]["total"], view["progress"]["unit"]) for view in seen]
    assert counts == [(8 * number, ROWS, "samples") for number in range(1, WINDOWS + 1)]
    assert seen[0]["progress"]["rate_per_second"] > 0
    assert seen[0]["progress"]["eta_seconds"] > 0


def test_weights_of_a_warm_up_that_are_lost_are_made_again(
    service: InProcessService, alone: dict[str, tuple[dict[str, bytes], dict[str, Any]]]
) -> None:
    job = submit(service, WARMED)
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    service.runner.run_claim(claim)
    for path in service.settings.data_dir.joinpath("objects").rglob("*"):
        if path.is_file() and b"lora_A" in path.read_bytes()[:4096]:
            path.unlink()
    assert service.drain() == 3
    assert files(service, job["id"]) == alone["warmed"][0]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"selection": {}}, "#/selection/scope"),
        ({"selection": {"scope": {"kind": "partitioned", "parts": 2}}}, "#/selection/scope"),
        ({"exclude": [1]}, "#/exclude"),
        ({"budget": {"tokens": 100}}, "#/budget/tokens"),
        ({"schedule": {"kind": "periodic", "steps_every": 0}}, "#/schedule"),
        ({"schedule": {"kind": "weekly"}}, "#/schedule"),
    ],
)
def test_what_windows_cannot_do_is_refused_before_anything_is_computed(
    service: InProcessService, change: dict[str, Any], pointer: str
) -> None:
    dataset = service.push(jsonl(sums(ROWS)))
    answer = service.http.post("/v1/jobs", json={"dataset_id": dataset["id"], **BODY, **change})
    assert answer.status_code == 422, answer.text
    assert pointer in answer.text


def test_an_older_worker_leaves_it_alone_and_a_model_that_was_tuned_serves_nobody_else(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(service)
    with monkeypatch.context() as older:
        older.setattr(scheduling, "SCHEMA_VERSION", 3)
        assert service.drain() == 0
    loaded: list[str] = []
    real = proxy_module.load_proxy
    monkeypatch.setattr(proxy_module, "load_proxy", lambda *a, **k: loaded.append("") or real(*a, **k))
    offline = {"budget": {"count": 3}, "gradients": {"sketch_dim": 4, "max_length": 64}}
    first = service.submit(job["dataset_id"], **offline)
    service.drain()
    before = service.http.get(f"/v1/jobs/{first['id']}/files/ranking.parquet").content
    assert len(loaded) == 2
    submit(service)
    service.drain()
    again = service.submit(job["dataset_id"], budget={"count": 3}, gradients={**offline["gradients"], "seed": 1})
    back = service.submit(job["dataset_id"], **offline)
    service.drain()
    assert service.job(again["id"])["status"] == "succeeded"
    assert service.http.get(f"/v1/jobs/{back['id']}/files/ranking.parquet").content == before
