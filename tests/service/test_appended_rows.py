"""A data set that begins with the rows of another: only what was added is measured, and it outlives the other."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import spice_select as ss
from app.ids import new_id
from app.services.storage.retention import Retention
from spice_select.ingest import SHARD_ROWS
from spice_select.pipeline.run import run
from tests.fixtures.service import InProcessService, jsonl

GRADIENTS = {"sketch_dim": 4, "max_length": 32}


def short(count: int) -> list[dict[str, Any]]:
    return [{"instruction": f"{i}?", "output": f"{i * 7 % 1009}"} for i in range(count)]


def test_appending_rows_measures_only_the_new_ones(any_service: InProcessService, tmp_path: Path) -> None:
    one = any_service.push(jsonl(short(SHARD_ROWS + 3)))
    first = any_service.submit(one["id"], gradients=GRADIENTS)
    assert any_service.drain() == 3, "two shards and a selection"
    two = any_service.push(jsonl(short(SHARD_ROWS + 9)))
    body = {"dataset_id": two["id"], "budget": {"count": 3}, "gradients": GRADIENTS}
    estimate = any_service.http.post("/v1/estimates", json=body).json()
    assert estimate["shards"] == {"total": 2, "done": 1}
    second = any_service.submit(two["id"], gradients=GRADIENTS)
    assert second["gradient_set_id"] != first["gradient_set_id"]
    assert second["gradients_reused"] is False, "not all of them"
    assert any_service.drain() == 2, "the shard with the new rows and a selection"
    done = any_service.job(second["id"])
    assert done["result"]["pool"] == SHARD_ROWS + 9

    # The very choice of a run that knows nothing of the first data set.
    source = tmp_path / "pool.jsonl"
    source.write_bytes(jsonl(short(SHARD_ROWS + 9)))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(**GRADIENTS), selection=ss.SelectionConfig(budget=ss.Budget(count=3))
    )
    run(source, config, tmp_path / "out", cache=tmp_path / "cache")
    chosen = any_service.http.get(f"/v1/jobs/{second['id']}/files/selected.jsonl").content
    assert chosen == (tmp_path / "out" / "selected.jsonl").read_bytes()

    # Gradients of the first that nobody needs any more go, but not the shard that the second counts on.
    busy = any_service.submit(two["id"], gradients=GRADIENTS)
    settings = any_service.settings.model_copy(update={"gradient_days": 1e-7})
    swept = Retention(any_service.runner.database, any_service.runner.store, settings).sweep()
    assert swept == {"gradient_sets_expired": 1, "artifacts_removed": 1}
    assert any_service.drain() == 1, "a selection from shards that are all there"
    assert any_service.http.get(f"/v1/jobs/{busy['id']}/files/selected.jsonl").content == chosen

    # Without the first data set all of the second is still there, and its rotten shards can be made again.
    assert any_service.http.delete(f"/v1/datasets/{one['id']}").status_code == 204
    for path in any_service.settings.data_dir.joinpath("objects").rglob("*"):
        if path.is_file() and b'"features"' in path.read_bytes()[:4096]:
            path.unlink()
    third = any_service.submit(two["id"], gradients=GRADIENTS)
    assert third["gradients_reused"] is True
    assert any_service.drain() == 4, "a selection that finds both shards lost, both of them, a selection"
    assert any_service.http.get(f"/v1/jobs/{third['id']}/files/selected.jsonl").content == chosen


def test_a_shorter_data_set_of_whole_shards_needs_nothing(service: InProcessService) -> None:
    long = service.push(jsonl(short(SHARD_ROWS + 1)))
    service.submit(long["id"], gradients=GRADIENTS)
    service.drain()
    whole = service.push(jsonl(short(SHARD_ROWS)))
    job = service.submit(whole["id"], gradients=GRADIENTS)
    assert job["gradients_reused"] is True
    assert service.drain() == 1, "the selection alone"
    assert service.job(job["id"])["result"]["pool"] == SHARD_ROWS


def test_the_same_records_read_by_other_columns_share_no_gradients(service: InProcessService) -> None:
    records = [{"question": f"What is {i}?", "answer": f"It is {i}.", "other": f"{i} " * (i % 9 + 1)} for i in range(6)]
    jobs = []
    for response in ("answer", "other"):
        columns = f'{{"prompt": "question", "response": "{response}"}}'
        dataset = service.push(jsonl(records), format="prompt_completion", columns=columns)
        jobs.append(service.submit(dataset["id"]))
        service.drain()
    assert jobs[0]["gradient_set_id"] != jobs[1]["gradient_set_id"]
    first, second = (service.job(job["id"])["result"]["tokens_pool"] for job in jobs)
    assert first != second


def appended(service: InProcessService, dataset: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    path, files = f"/v1/datasets/{dataset['id']}/append", {"file": ("more.jsonl", jsonl(records))}
    sent = service.http.post(path, files=files)
    assert sent.status_code == 202, sent.json()
    service.drain()
    made: dict[str, Any] = service.http.get(sent.headers["Location"]).json()
    return made


def test_a_judgement_that_only_the_append_holds_is_refused_unless_the_columns_were_given(
    service: InProcessService,
) -> None:
    rows = [{"prompt": f"{i}?", "completion": f"{i}"} for i in range(20)]
    judged = [{"prompt": "Is it?", "completion": "No.", "label": False}]
    made = appended(service, service.push(jsonl(rows)), judged)
    assert (made["status"], made["error"]["code"]) == ("invalid", "dataset-columns-ambiguous")
    assert '{"prompt":"prompt","response":"completion","label":"label"}' in made["error"]["detail"]
    assert "register them anew" in made["error"]["detail"]
    once = appended(service, service.push(jsonl(rows)), rows[:1])
    again = appended(service, once, judged)
    assert again["error"]["code"] == "dataset-columns-ambiguous", "a version of a version too"
    columns = '{"prompt": "prompt", "response": "completion"}'
    settled = appended(service, service.push(jsonl(rows), columns=columns), judged)
    assert (settled["status"], settled["num_usable"]) == ("ready", 21)
    assert any("'label' (1 rows)" in warning for warning in settled["warnings"])


def test_append_makes_a_version_that_shares_shards_and_is_extended(any_service: InProcessService) -> None:
    one = any_service.push(jsonl(short(SHARD_ROWS + 3)))
    first = any_service.submit(one["id"], gradients=GRADIENTS)
    any_service.drain()
    two = appended(any_service, one, short(SHARD_ROWS + 9)[SHARD_ROWS + 3 :])
    assert (two["status"], two["appended_to"], two["num_usable"]) == ("ready", one["id"], SHARD_ROWS + 9)
    whole = any_service.push(jsonl(short(SHARD_ROWS + 9)))
    assert two["rows_digest"] == whole["rows_digest"], "the rows of one file"
    assert two["id"] != one["id"]
    job = any_service.submit(two["id"], gradients=GRADIENTS, extends_job_id=first["id"])
    assert any_service.drain() == 2, "the shard with the new rows and a selection"
    done = any_service.job(job["id"])
    assert done["status"] == "succeeded", done["error"]
    assert done["config"]["conditions"]["given_job"] == first["id"]
    rows = [
        {pick["source_row"] for pick in any_service.http.get(f"/v1/jobs/{one_of['id']}/selection").json()["data"]}
        for one_of in (first, job)
    ]
    assert not rows[0] & rows[1]
    statement = any_service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    names = {item["name"]: item for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert names["given-selection"]["uri"] == f"spice:job/{first['id']}"
    three = appended(any_service, two, short(SHARD_ROWS + 12)[SHARD_ROWS + 9 :])
    assert three["num_usable"] == SHARD_ROWS + 12
    assert any_service.submit(three["id"], gradients=GRADIENTS, extends_job_id=first["id"])["id"], "over two versions"
    any_service.drain()

    # What the second job added to is owned as well: nothing is selected a third time.
    path, request = "/v1/jobs", {"dataset_id": three["id"], "budget": {"count": 3}, "gradients": GRADIENTS}
    most = {**request, "budget": {"count": SHARD_ROWS + 12 - 5}, "extends_job_id": job["id"]}
    assert any_service.http.post(path, json=most).json()["code"] == "budget-exceeds-pool", "two jobs own six rows"
    third = any_service.submit(three["id"], gradients=GRADIENTS, extends_job_id=job["id"])
    held = any_service.http.delete(f"/v1/jobs/{first['id']}")
    assert (held.status_code, held.json()["code"]) == (409, "job-in-use"), "two steps back, and still needed"
    any_service.drain()
    found = any_service.http.get(f"/v1/jobs/{third['id']}/selection").json()["data"]
    assert not {pick["source_row"] for pick in found} & (rows[0] | rows[1])
    statement = any_service.http.get(f"/v1/jobs/{third['id']}/provenance").json()
    given = [
        item["uri"]
        for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        if item["name"] == "given-selection"
    ]
    assert given == [f"spice:job/{job['id']}", f"spice:job/{first['id']}"]

    # With a job of the chain its rows are forgotten, so that nothing can be built on it without a word.
    assert any_service.http.delete(f"/v1/jobs/{first['id']}").status_code == 204
    problem = any_service.http.post(path, json={**request, "extends_job_id": third["id"]}).json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("given-job-unusable", "#/extends_job_id")
    assert first["id"] in problem["detail"]


def test_what_cannot_be_extended_is_refused(service: InProcessService) -> None:
    one, other = service.push(jsonl(short(9))), service.push(jsonl(short(7)))
    first = service.submit(one["id"], gradients=GRADIENTS)
    service.drain()
    longer = appended(service, one, short(12)[9:])
    body = {"dataset_id": longer["id"], "budget": {"count": 2}, "gradients": GRADIENTS, "extends_job_id": first["id"]}
    pointer = "#/extends_job_id"
    for changed, code in (
        ({"gradients": {**GRADIENTS, "sketch_dim": 5}}, "given-job-unusable"),
        ({"dataset_id": other["id"]}, "given-job-unusable"),
        ({"extends_job_id": "job_nobody"}, "not-found"),
    ):
        problem = service.http.post("/v1/jobs", json={**body, **changed}).json()
        assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer), problem
    twice = service.http.post("/v1/jobs", json={**body, "given_job": first["id"]})
    assert twice.status_code == 422
    back = service.submit(longer["id"], gradients=GRADIENTS)
    service.drain()
    problem = service.http.post("/v1/jobs", json={**body, "dataset_id": one["id"], "extends_job_id": back["id"]}).json()
    assert problem["code"] == "given-job-unusable", "an older version does not hold what the newer one has"


def test_other_columns_are_united_or_listed_and_nothing_is_lost(service: InProcessService) -> None:
    one = service.push(jsonl(short(5)))
    more = [{"instruction": "What?", "output": "That.", "topic": "new"}, {"question": "Who?", "answer": "I."}]
    two = appended(service, one, more)
    assert (two["status"], two["num_rows"], two["num_usable"]) == ("ready", 7, 6)
    rejected = service.http.get(f"/v1/datasets/{two['id']}/rejected").json()["data"]
    assert [row["row"] for row in rejected] == [6]


def test_what_cannot_be_appended_is_refused(service: InProcessService) -> None:
    one = service.push(jsonl(short(5)))
    path = f"/v1/datasets/{one['id']}/append"
    csv = service.http.post(path, files={"file": ("more.csv", b"instruction,output\na,b\n")})
    assert csv.status_code == 202
    service.drain()
    made = service.http.get(csv.headers["Location"]).json()
    assert (made["status"], made["error"]["code"]) == ("invalid", "dataset-files-differ")
    asked = service.http.post(path, files={"file": ("a.jsonl", jsonl(short(1)))}, data={"format": "alpaca"}).json()
    assert (asked["code"], asked["errors"][0]["pointer"]) == ("validation-error", "#/format")
    source = {"source": {"type": "https", "url": "https://example.org/a.jsonl"}}
    assert service.http.post(path, json=source).json()["errors"][0]["pointer"] == "#/source"
    assert service.http.post(f"/v1/datasets/{new_id('ds')}/append", files={"file": ("a", b"{}")}).status_code == 404
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.jsonl", jsonl(short(3)))
    foreign = service.http.post(path, files={"file": ("a.zip", held.getvalue())})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "dataset-not-kept")
    listed = service.http.post(path, json=short(2))
    assert listed.status_code == 202
    key = {"Idempotency-Key": "once"}
    first, again = (service.http.post(path, json=short(3), headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"


def archived(rows: bytes, *, method: int = zipfile.ZIP_STORED, name: str = "part-00000") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.writestr(name, rows)
    return held.getvalue()


def test_an_archive_that_looks_like_ours_is_neither_unpacked_nor_believed(service: InProcessService) -> None:
    one = service.push(jsonl(short(5)))
    path = f"/v1/datasets/{one['id']}/append"
    ours = archived(jsonl(short(2)))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    encrypted = bytearray(ours)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + place] |= 1
    flipped = bytearray(ours)
    flipped[ours.index(b"instruction") + 3] ^= 1
    for content in (
        archived(bytes(4_000_000), method=zipfile.ZIP_DEFLATED),
        empty.getvalue(),
        bytes(encrypted),
        bytes(flipped),
        ours[:-30],
    ):
        answer = service.http.post(path, files={"file": ("a.zip", content)})
        assert (answer.status_code, answer.json()["code"]) == (422, "dataset-not-kept"), content[:60]
    marked = jsonl(short(2)) + b"PK\x05\x06" + bytes(18)
    made = service.http.post(path, files={"file": ("a.jsonl", marked)})
    assert made.status_code == 202
    service.drain()
    found = service.http.get(made.headers["Location"]).json()
    assert found["status"] == "invalid" or found["num_usable"] > 5, "rows that end like an archive are not lost"


def test_what_is_appended_is_bounded_while_it_is_written(sqlite_url: str, tmp_path: Path) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", max_upload_bytes=20_000) as small:
        one = small.push(jsonl(short(300)))
        answer = small.http.post(f"/v1/datasets/{one['id']}/append", files={"file": ("a.jsonl", jsonl(short(300)))})
        assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")


def test_new_rows_of_which_none_is_usable_are_no_new_version(service: InProcessService) -> None:
    one = service.push(jsonl([*short(5), {"question": "Who?"}]))
    made = appended(service, one, [{"question": "Who?", "answer": "I."}] * 3)
    assert (made["status"], made["error"]["code"]) == ("invalid", "dataset-no-usable-rows")
    assert "none of the 3 new rows" in made["error"]["detail"]
    assert sum(made["error"]["reasons"].values()) == 3
    assert made["error"]["errors"][0]["pointer"] == "#/rows/6"
    some = appended(service, one, [{"question": "Who?"}] * 3 + short(1))
    assert some["status"] == "ready"
    assert some["warnings"][0] == "3 of the 4 new rows cannot be used"


def test_a_grown_data_set_is_told_of_in_the_words_of_its_owner(service: InProcessService) -> None:
    one = service.push(jsonl(short(5)), name="mine")
    two = appended(service, one, short(7)[5:])
    assert (two["name"], two["warnings"], two["status"]) == ("mine", [], "ready")
    three = appended(service, two, short(9)[7:])
    assert (three["name"], three["warnings"], three["num_usable"]) == ("mine", [], 9)
    path = f"/v1/datasets/{one['id']}/append"
    csv = service.http.post(path, files={"file": ("more.csv", b"instruction,output\na,b\n")})
    named = service.http.post(path, files={"file": ("more.jsonl", jsonl(short(1)))}, data={"name": "other"}).json()
    assert named["name"] == "other"
    service.drain()
    detail = service.http.get(csv.headers["Location"]).json()["error"]["detail"]
    assert detail == "appended file 1: it is csv, the first file is jsonl"
