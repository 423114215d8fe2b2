"""Records that a newer release wrote, read by this one: in an upgrade that is on its way, or was taken back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from app.ids import DEFAULT_PROJECT
from app.persistence.repositories import Events
from app.persistence.tables import Dataset, Evaluation, GradientSet, Job, Unit
from app.services.units.service import UPGRADE_PATIENCE, UnitService
from app.status import UnitState
from tests.fixtures.service import InProcessService, jsonl, sums

Change = Callable[[dict[str, Any]], None]


def put(place: str, value: Any) -> Change:
    """A change of one setting."""
    *groups, name = place.split(".")

    def change(settings: dict[str, Any]) -> None:
        for group in groups:
            settings = settings.setdefault(group, {})
        settings[name] = value

    return change


FUTURE: dict[str, Change] = {
    "a setting of the selection": put("selection.temperature", 0.5),
    "a setting of the gradients": put("gradients.layers", [1, 2]),
    "a group of settings": put("curriculum", {"stages": 3}),
    "another method": put("selection.method", "spice2"),
    "another form of a method": put("selection.method", {"name": "spice2"}),
    "another kind of budget": put("selection.budget", {"seconds": 60}),
    "another form of a stop ratio": put("selection.stop_ratio", {"first": 0.5}),
    "another schedule": put("schedule", {"kind": "streaming", "every": 5}),
    "a scope in words": put("selection.scope", "everywhere"),
    "no selection": lambda settings: settings.pop("selection") and None,
    "nothing that is known": lambda settings: settings.clear() or settings.update(plan="p1"),
}


@pytest.fixture(scope="module")
def finished(shared_service: InProcessService) -> tuple[InProcessService, str]:
    """A service for each database, with a job that has a result."""
    dataset = shared_service.push(jsonl(sums(12)))
    job = shared_service.submit(dataset["id"], parent={"run_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "job": {
        "namespace": "airflow", "name": "nightly"}})  # fmt: skip
    shared_service.drain()
    return shared_service, job["id"]


def plant(service: InProcessService, table: Any, id_: str, **values: Any) -> dict[str, Any]:
    """Write what a newer release would have written; what was there before."""
    with service.runner.database.write() as session:
        row = session.scalars(select(table).where(table.id == id_)).one()
        before = {name: copy.deepcopy(getattr(row, name)) for name in values}
        for name, value in values.items():
            setattr(row, name, value)
    return before


def changed(service: InProcessService, table: Any, id_: str, column: str, change: Change) -> tuple[Any, Any]:
    """Change one object of a record; what was there, and what is."""
    with service.runner.database.read() as session:
        before = getattr(session.scalars(select(table).where(table.id == id_)).one(), column)
    after = copy.deepcopy(before)
    change(after)
    plant(service, table, id_, **{column: after})
    return before, after


@pytest.mark.parametrize("name", FUTURE)
def test_a_job_with_settings_of_a_newer_release_is_shown_as_it_was_stored(
    finished: tuple[InProcessService, str], name: str
) -> None:
    service, job_id = finished
    before, after = changed(service, Job, job_id, "config", FUTURE[name])
    try:
        answer = service.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["config"] == after != before
        listed = service.http.get("/v1/jobs", params={"limit": 100}).json()["data"]
        assert next(job for job in listed if job["id"] == job_id)["config"] == after
        for path in ("/selection", "/files", "/files/selected.parquet", "/events", "/provenance"):
            assert service.http.get(f"/v1/jobs/{job_id}{path}").status_code == 200, path
        for page in ("/ui", f"/ui/jobs/{job_id}", f"/ui/jobs/{job_id}/plots", f"/ui/new?like={job_id}"):
            assert service.http.get(page).status_code == 200, page
        assert service.http.get("/metrics").status_code == 200
        assert service.http.patch(f"/v1/jobs/{job_id}", json={"name": "renamed"}).json()["config"] == after
        # Other jobs are estimated by what past ones took.
        other = {"dataset_id": answer.json()["dataset_id"], "budget": {"count": 3}}
        assert service.http.post("/v1/estimates", json=other).status_code == 200
        # What would act upon the settings says that it cannot read them.
        for refused in (
            service.http.get(f"/v1/jobs/{job_id}/files/selected.parquet", params={"k": 1}),
            service.http.post("/v1/evaluations", json={"job_id": job_id}),
            service.http.post("/v1/estimates/evaluations", json={"job_id": job_id}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (409, "newer-settings"), refused.text
            assert refused.headers["Retry-After"] == "30"
            assert job_id in refused.json()["detail"]
    finally:
        plant(service, Job, job_id, config=before)
    assert service.job(job_id)["config"] == before


@pytest.mark.parametrize(
    ("column", "shown", "value"),
    [
        ("parent", "parent", {"run": "a-run", "orchestrator": "dagster"}),
        ("estimate", "estimate", {"tokens": 12, "joules": 3.5}),
        ("metadata_", "metadata", {"later": "x"}),
    ],
)
def test_what_else_a_newer_release_says_of_a_job_is_shown(
    finished: tuple[InProcessService, str], column: str, shown: str, value: dict[str, Any]
) -> None:
    service, job_id = finished
    before = plant(service, Job, job_id, **{column: value})
    try:
        found = service.http.get(f"/v1/jobs/{job_id}")
        assert found.status_code == 200, found.text
        assert value.items() <= found.json()[shown].items()
        assert service.http.get("/v1/jobs").status_code == service.http.get(f"/ui/jobs/{job_id}").status_code == 200
    finally:
        plant(service, Job, job_id, **before)


def test_a_problem_and_an_event_of_a_newer_release_are_shown(finished: tuple[InProcessService, str]) -> None:
    service, job_id = finished
    problem = {"type": "/problems/out-of-luck", "title": "Out of luck", "status": 500, "code": "out-of-luck",
               "detail": "no luck", "retryable": False, "errors": [], "lucky_number": 7}  # fmt: skip
    before = plant(service, Job, job_id, error=problem, status="failed")
    with service.runner.database.write() as session:
        Events(session).append(DEFAULT_PROJECT, "job.blessed", job_id=job_id, data={"by": ["x"]})
    try:
        assert service.job(job_id)["error"]["code"] == "out-of-luck"
        for path in (f"/v1/jobs/{job_id}/events", "/v1/events?limit=1000"):
            assert "job.blessed" in [event["type"] for event in service.http.get(path).json()["data"]]
        assert service.http.get(f"/ui/jobs/{job_id}").status_code == 200
    finally:
        plant(service, Job, job_id, **before)


def test_a_data_set_from_a_newer_kind_of_source_is_shown_without_what_may_be_secret(
    shared_service: InProcessService,
) -> None:
    service = shared_service
    dataset = service.push(jsonl(sums(3, 50)))
    source = {"type": "azure", "account": "a", "sas_token": "hunter2-of-azure"}
    plant(service, Dataset, dataset["id"], source=source, requested={"format": "parquet-of-tomorrow", "sheet": 2})
    answer = service.http.get(f"/v1/datasets/{dataset['id']}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["source"] == {"type": "azure", "resolved": None}
    for path in ("/v1/datasets", "/ui/datasets"):
        listed = service.http.get(path)
        assert listed.status_code == 200, listed.text
        assert "hunter2" not in listed.text
    assert service.http.delete(f"/v1/datasets/{dataset['id']}").status_code == 204


def test_an_evaluation_with_settings_of_a_newer_release_is_shown_as_it_was_stored(
    finished: tuple[InProcessService, str],
) -> None:
    service, job_id = finished
    held = service.push(jsonl(sums(4, 900)))
    made = service.http.post("/v1/evaluations", json={"job_id": job_id, "holdout_dataset_id": held["id"]}).json()
    config = {**made["config"], "judge": {"kind": "preference"}, "seeds": "as many as it takes"}
    model = {"model": "builtin:tiny", "quantized": True}
    plant(service, Evaluation, made["id"], config=config, model=model)
    found = service.http.get(f"/v1/evaluations/{made['id']}").json()
    assert (found["config"], found["model"]) == (config, model)
    assert service.http.get("/v1/evaluations").json()["data"][0]["config"] == config
    assert "as many as it takes seeds" in service.http.get(f"/ui/jobs/{job_id}").text

    # A worker leaves it to another for a while, and says so.
    assert service.drain() == 5
    ended = service.http.get(f"/v1/evaluations/{made['id']}").json()
    assert (ended["status"], ended["error"]["code"]) == ("failed", "newer-settings")
    assert made["id"] in ended["error"]["detail"]


@pytest.mark.parametrize(("what", "left_alone"), [("job", False), ("gradient set", True)])
def test_a_worker_leaves_a_unit_with_newer_settings_to_others_and_fails_it_in_the_end(
    any_service: InProcessService, what: str, *, left_alone: bool
) -> None:
    service = any_service
    dataset = service.push(jsonl(sums(6)))
    job = service.submit(dataset["id"])
    record = (Job, job["id"]) if what == "job" else (GradientSet, job["gradient_set_id"])
    future = put("selection.temperature", 0.5) if what == "job" else put("gradients.layers", [1, 2])
    before, _ = changed(service, *record, "config", future)
    units = service.runner.units
    patient = service.settings.model_copy(update={"backoff_seconds": 100.0})
    service.runner.units = UnitService(units.database, patient)
    assert service.drain() == (2 if what == "job" else 1)
    kind = "select" if what == "job" else "gradients"
    with service.runner.database.read() as session:
        unit = session.scalars(select(Unit).where(Unit.kind == kind)).one()
        wait = (unit.not_before - unit.created_at).total_seconds()
        assert unit.state == UnitState.PENDING
    assert wait >= 100 * UPGRADE_PATIENCE, "nothing is tried again before the upgrade had time to bring a worker"
    last = service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"][-1]
    assert (last["type"], last["data"]["code"], last["data"]["again"]) == ("unit.failed", "newer-settings", True)
    assert ("selection.temperature" if what == "job" else "layers") in last["data"]["detail"]
    assert service.job(job["id"])["status"] == "running"

    service.runner.units = units
    plant(service, Unit, unit.id, not_before=unit.created_at)
    if left_alone:
        assert service.drain() == service.settings.max_attempts - 1
        ended = service.job(job["id"])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "newer-settings")
        return
    # A worker that can read them takes the job to its end.
    plant(service, record[0], record[1], config=before)
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"


@pytest.mark.parametrize(
    "stored", [{"source": {"type": "azure", "account": "a"}}, {"requested": {"sheet": 2}}], ids=["source", "reading"]
)
def test_a_data_set_that_only_a_newer_worker_can_read_says_so(
    any_service: InProcessService, stored: dict[str, Any]
) -> None:
    service = any_service
    made = service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(3)))}).json()
    plant(service, Dataset, made["id"], **stored)
    assert service.drain() == service.settings.max_attempts
    ended = service.http.get(f"/v1/datasets/{made['id']}").json()
    assert (ended["status"], ended["error"]["code"]) == ("invalid", "newer-settings")
    assert made["id"] in ended["error"]["detail"]
