"""``/v1/evaluations``: the numbers of the library, refusals before anything is trained, the life of the resource."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.persistence.tables import Evaluation
from app.ui.evaluation_view import forest
from spice_select.client import AsyncClient, Client
from spice_select.config import ProxyConfig
from spice_select.errors import ClientError, ConfigError
from spice_select.evaluation.evaluate import evaluate
from spice_select.evaluation.settings import EvaluationConfig
from tests.fixtures.service import InProcessService, jsonl, sums

QUICK: dict[str, Any] = {
    "seeds": 2,
    "controls": ["random", "full"],
    "plantings": ["junk"],
    "training": {"epochs": 2.0, "batch_rows": 4, "learning_rate": 0.003},
    "max_length": 64,
}
COMPARED = ("verdict", "sentence", "power", "comparisons", "loss_at_start", "loss_at_start_by_group", "pool_rows")


def grouped(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{**row, "kind": "even" if number % 2 else "odd"} for number, row in enumerate(sums(count, start))]


def finished(service: InProcessService, **body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job with a result, and a data set that it has not seen but for one row."""
    dataset = service.push(jsonl(grouped(40)))
    job = service.submit(dataset["id"], budget={"count": 8}, **body)
    service.drain()
    return service.job(job["id"]), service.push(jsonl([*grouped(12, 1000), grouped(40)[3]]))


@pytest.fixture(scope="module")
def judged(shared_service: InProcessService) -> tuple[InProcessService, dict[str, Any], dict[str, Any]]:
    """One service for each database, with a job and a data set that judges its choice; tests add evaluations of it."""
    return shared_service, *finished(shared_service)


def asked(service: InProcessService, **which: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.http.get("/v1/evaluations", params={"limit": 100, **which}).json()["data"]
    return found


Judged = tuple[InProcessService, dict[str, Any], dict[str, Any]]


def test_the_report_is_that_of_the_library(judged: Judged, tmp_path: Path) -> None:
    service, job, holdout = judged
    body = {"job_id": job["id"], "holdout_dataset_id": holdout["id"], "group": "kind", **QUICK}
    made = service.http.post("/v1/evaluations", json=body, headers={"Idempotency-Key": "once"})
    assert made.status_code == 202, made.text
    where = made.headers["Location"]
    assert made.json()["status"] == "queued"
    again = service.http.post("/v1/evaluations", json=body, headers={"Idempotency-Key": "once"})
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (made.json()["id"], "true")
    other = service.http.post("/v1/evaluations", json={**body, "seeds": 3}, headers={"Idempotency-Key": "once"})
    assert other.json()["code"] == "idempotency-key-reused"
    assert service.drain() == 1 + 4 * 2 + 1
    found = service.http.get(where, params={"wait": 1}).json()
    assert found["status"] == "succeeded", found
    assert found["config"]["training"]["batch_rows"] == 4
    assert (found["model"]["model"], found["max_length"]) == ("builtin:tiny", 64)

    (tmp_path / "pool.jsonl").write_bytes(jsonl(grouped(40)))
    (tmp_path / "held.jsonl").write_bytes(jsonl([*grouped(12, 1000), grouped(40)[3]]))
    ranking = service.http.get(f"/v1/jobs/{job['id']}/files/ranking.parquet").content
    (tmp_path / "ranking.parquet").write_bytes(ranking)
    config = EvaluationConfig.model_validate({key: QUICK[key] for key in QUICK if key != "max_length"})
    alone = evaluate(
        tmp_path / "pool.jsonl",
        tmp_path / "ranking.parquet",
        config,
        held_out=tmp_path / "held.jsonl",
        group="kind",
        proxy=ProxyConfig(),
        max_length=64,
    )
    result = found["result"]
    assert {name: result[name] for name in COMPARED} == {name: alone[name] for name in COMPARED}
    for ours, theirs in zip(result["arms"], alone["arms"], strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    assert result["near_duplicates_left_out"] == alone["near_duplicates_left_out"] == 1
    assert result["choice_saw_held_out_rows"] is False

    types = [event["type"] for event in service.http.get(f"{where}/events").json()["data"]]
    assert types[:3] == ["evaluation.queued", "evaluation.running", "evaluation.planned"]
    assert (types.count("evaluation.trained"), types[-1]) == (8, "evaluation.succeeded")
    shown = service.http.get("/v1/events", params={"type": "evaluation.succeeded"}).json()["data"]
    assert [event["evaluation_id"] for event in shown].count(found["id"]) == 1
    assert (
        service.http.get(where, headers={"If-None-Match": service.http.get(where).headers["ETag"]}).status_code == 304
    )
    assert service.http.post(f"{where}/cancel").json()["code"] == "conflict-state"

    page = service.http.get(f"/ui/jobs/{job['id']}").text
    assert result["sentence"] in page
    assert 'hx-trigger="every' not in page, "nothing moves any more"
    assert page.count('class="compact shares forest"') == 2


def test_rows_that_the_job_was_told_to_exclude_judge_it(service: InProcessService) -> None:
    job, _ = finished(service, exclude=list(range(30, 40)))
    made = service.http.post("/v1/evaluations", json={"job_id": job["id"], **QUICK}).json()
    assert made["holdout_dataset_id"] is None
    service.drain()
    result = service.http.get(f"/v1/evaluations/{made['id']}").json()["result"]
    assert (result["held_out_rows"], result["selected_rows"]) == (10, 8)
    assert result["pool_rows"] + result["near_duplicates_left_out"] == 30


def test_what_cannot_be_judged_is_refused_before_anything_is_made(judged: Judged) -> None:
    service, job, holdout = judged
    before = asked(service)
    twin = service.push(jsonl(grouped(40)))
    small = service.push(jsonl(grouped(1, 500)))
    waiting = service.submit(job["dataset_id"], budget={"count": 2})
    good = {"job_id": job["id"], "holdout_dataset_id": holdout["id"]}
    unknown = "job_01J8Z3K4M5N6P7Q8R9S0T1V2W3"
    for changes, code, pointer in (
        ({"holdout_dataset_id": None}, "holdout-unusable", "#/holdout_dataset_id"),
        ({"holdout_dataset_id": job["dataset_id"]}, "holdout-unusable", "#/holdout_dataset_id"),
        ({"holdout_dataset_id": twin["id"]}, "holdout-unusable", "#/holdout_dataset_id"),
        ({"holdout_dataset_id": small["id"]}, "holdout-unusable", "#/holdout_dataset_id"),
        ({"holdout_dataset_id": "ds_unknown"}, "not-found", "#/holdout_dataset_id"),
        ({"job_id": unknown}, "not-found", "#/job_id"),
        ({"job_id": waiting["id"]}, "conflict-state", None),
        ({"group": "colour"}, "config-invalid", "#/group"),
        ({"model": {"model": "builtin:huge"}}, "unknown-proxy", "#/proxy/model"),
        ({"seeds": 1}, "validation-error", "#/seeds"),
        ({"controls": ["random", "random"]}, "validation-error", None),
        ({"training": {"epochs": 0}}, "validation-error", "#/training/epochs"),
        ({"colour": 1}, "validation-error", "#/colour"),
    ):
        refused = service.http.post("/v1/evaluations", json={**good, **changes})
        assert refused.json().get("code") == code, (changes, refused.text)
        if pointer is not None:
            assert refused.json()["errors"][0]["pointer"] == pointer, (changes, refused.text)
    less = service.submit(job["dataset_id"], method="less", target_dataset_id=holdout["id"], budget={"count": 4})
    service.drain()
    towards = service.http.post("/v1/evaluations", json={**good, "job_id": less["id"]}).json()
    assert (towards["code"], "close to these rows" in towards["detail"]) == ("holdout-unusable", True)
    assert asked(service) == before


def test_the_life_of_an_evaluation_from_both_clients(judged: Judged) -> None:
    service, first_job, _ = judged
    # A choice of its own from the same gradients, and rows of its own to judge it, which are deleted in the end.
    job = service.submit(first_job["dataset_id"], budget={"count": 8})
    holdout = service.push(jsonl(grouped(12, 2000)))
    service.drain()
    fields = {"holdout_dataset_id": holdout["id"], **QUICK}
    with Client(str(service.http.base_url)) as client:
        with pytest.raises(ConfigError, match="colour"):
            client.evaluations.submit(job["id"], colour=1)
        first = client.evaluations.submit(job["id"], metadata={"team": "search"}, **fields)
        page = service.http.get(f"/ui/jobs/{job['id']}").text
        assert f'hx-get="/ui/jobs/{job["id"]}/evaluations"' in page, "the page follows it"
        # Its data sets stay as long as it needs them.
        for held in (job["dataset_id"], holdout["id"]):
            assert service.http.delete(f"/v1/datasets/{held}").json()["code"] == "dataset-in-use"
        for _ in range(3):
            claim = service.runner.units.claim_next("test")
            assert claim is not None
            service.runner.run_claim(claim)
        half = client.evaluations.get(first.id)
        assert half.progress is not None
        assert (half.status, half.progress.completed, half.progress.total, half.progress.unit) == (
            "running", 2, 8, "trainings",
        )  # fmt: skip
        assert client.evaluations.cancel(first.id).status == "cancelled"
        assert service.drain() == 0, "nothing of it is worked on any more"
        with pytest.raises(ClientError, match="has ended"):
            client.evaluations.cancel(first.id)
        assert [event.type for event in client.evaluations.events(first.id)][-1] == "evaluation.cancelled"
        assert service.http.delete(f"/v1/datasets/{holdout['id']}", headers={"If-Match": '"99"'}).status_code == 412

        async def second() -> Any:
            async with AsyncClient(str(service.http.base_url)) as spice:
                made = await spice.evaluations.submit(job["id"], name="second", **fields)
                await asyncio.to_thread(service.drain)
                ended = await spice.evaluations.wait(made.id)
                names = [one.name async for one in spice.evaluations.list(job_id=job["id"])]
                types = [event.type async for event in spice.evaluations.events(made.id)]
                return ended, names, types

        ended, names, types = asyncio.run(second())
        assert (ended.status, names, types[-1]) == ("succeeded", ["second", None], "evaluation.succeeded")
        assert first.id in [one.id for one in client.evaluations.list(status="cancelled")]
    found = service.http.get("/v1/evaluations", params={"metadata": "team=search"}).json()["data"]
    assert [one["id"] for one in found] == [first.id]
    assert service.http.get("/v1/evaluations", params={"limit": 1}).json()["has_more"]
    assert service.http.delete(f"/v1/datasets/{holdout['id']}").status_code == 204


def test_webhooks_tell_of_evaluations_on_demand(service: InProcessService) -> None:
    schema = service.http.get("/v1/openapi.json").json()["components"]["schemas"]["WebhookEndpointCreate"]
    types = schema["properties"]["event_types"]["items"]["enum"]
    assert {"evaluation.succeeded", "evaluation.failed", "evaluation.cancelled"} <= set(types)


def entry(control: str, low: float, high: float, **groups: tuple[float, float]) -> dict[str, Any]:
    inside = {name: {"mean": sum(ends) / 2, "low": ends[0], "high": ends[1]} for name, ends in groups.items()}
    return {
        "control": control, "mean": (low + high) / 2, "low": low, "high": high, "confidence": 0.95, "groups": inside,
    }  # fmt: skip


def test_intervals_are_drawn_on_one_scale_with_zero_on_it() -> None:
    found = [entry("random", -0.3, -0.1, a=(0.1, 0.7), b=(-0.1, 0.2)), entry("full", -0.5, 0.0)]
    drawn = forest({"comparisons": found})
    assert drawn is not None
    rows = [*drawn.controls, *drawn.groups]
    assert [row.kind for row in rows] == ["worse", "open", "better", "open"]
    for row in rows:
        for value, place in ((row.low, row.left), (row.mean, row.middle), (row.high, row.right)):
            assert place - drawn.zero == pytest.approx(value / 1.2 * 100 / 1.12, abs=0.02)
            assert 0 <= place <= 100
    assert forest({"comparisons": []}) is None
    one = forest({"comparisons": [entry("random", 0.1, 0.2, a=(0.1, 0.2))]})
    assert one is not None
    assert (one.groups, one.zero > 0) == ([], True)


def test_an_answer_is_plain_json(judged: Judged) -> None:
    """Names from strangers are stored as they are and shown escaped."""
    service, job, holdout = judged
    body = {"job_id": job["id"], "holdout_dataset_id": holdout["id"], "name": "<b>x</b>"}
    made = service.http.post("/v1/evaluations", json=body).json()
    with service.runner.database.read() as session:
        stored = session.get(Evaluation, made["id"])
        assert stored is not None
        assert stored.config == EvaluationConfig().model_dump(mode="json")
    assert "<b>x</b>" not in service.http.get(f"/ui/jobs/{job['id']}").text


def test_an_estimate_refuses_what_is_refused_and_makes_nothing(any_service: InProcessService) -> None:
    service = any_service
    job, holdout = finished(service)
    # Cut where the job cut its rows, so that their tokens are known.
    quick = {name: value for name, value in QUICK.items() if name != "max_length"}
    body = {"job_id": job["id"], "holdout_dataset_id": holdout["id"], **quick}
    where = "/v1/estimates/evaluations"
    before = service.http.post(where, json=body).json()
    assert (before["rows"], before["chosen"], before["held_out"]) == (40, 8, 13)
    assert before["arms"] == ["choice", "random", "full", "junk"]
    assert (before["trainings"], before["steps"]) == (4 * 2, 2 * 8 // 4)
    assert (before["seconds"], before["tokens_basis"]) == (None, "measured")
    assert any("seconds" in note for note in before["notes"])
    grouped_body = {**body, "group": "kind", "controls": ["stratified"], "plantings": ["one_group"]}
    assert service.http.post(where, json=grouped_body).json()["arms"] == ["choice", "stratified", "one_group"]
    del grouped_body["group"]
    assert service.http.post(where, json=grouped_body).json()["arms"] == ["choice"]
    refused = service.http.post(where, json={**body, "holdout_dataset_id": job["dataset_id"]})
    assert refused.json()["code"] == "holdout-unusable"
    assert service.http.get("/v1/evaluations").json()["data"] == []
    made = service.http.post("/v1/evaluations", json=body).json()
    service.drain()
    arms = service.http.get(f"/v1/evaluations/{made['id']}").json()["result"]["arms"]
    trained = sum(sum(arm["tokens_trained"]) for arm in arms)
    # Equal tokens for every arm: the estimate is off by no more than what ends a step and by the mean of the rows left.
    assert before["tokens"] == pytest.approx(trained, rel=0.1)
    with Client(str(service.http.base_url)) as client:
        after = client.evaluations.estimate(job["id"], holdout_dataset_id=holdout["id"], **quick)
        took = sum(sum(arm["seconds"]) for arm in arms)
        # Eight trainings, each told to a hundredth of a second.
        assert after.seconds == pytest.approx(took * after.tokens / trained, rel=0.02, abs=0.05)
        assert after.cost is None, "no price is set"
        adapters = {**quick, "training": {**quick["training"], "tuning": "lora"}}
        assert client.evaluations.estimate(job["id"], holdout_dataset_id=holdout["id"], **adapters).seconds is None
        with pytest.raises(ConfigError, match="colour"):
            client.evaluations.estimate(job["id"], colour=1)

        async def same() -> Any:
            async with AsyncClient(str(service.http.base_url)) as spice:
                return await spice.evaluations.estimate(job["id"], holdout_dataset_id=holdout["id"], **quick)

        assert asyncio.run(same()) == after
