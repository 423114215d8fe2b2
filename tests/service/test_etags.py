"""What the contract says is sent with an ETag is, and not sent again to whoever has it; HEAD is GET without a body."""

from __future__ import annotations

from tests.fixtures.service import InProcessService, jsonl, sums


def test_every_route_answers_head_and_one_that_promises_an_etag_keeps_to_it(service: InProcessService) -> None:
    http = service.http
    job = service.submit(service.push(jsonl(sums(10)))["id"], exclude=[0, 1, 2])
    service.drain()
    evaluation = http.post("/v1/evaluations", json={"job_id": job["id"], "seeds": 2})
    endpoint = http.post("/v1/webhook-endpoints", json={"url": "https://93.184.215.14/told"})
    link = http.post(f"/v1/jobs/{job['id']}/files/selected.jsonl/links", json={})
    upload = http.post("/v1/datasets/uploads", json={"bytes": 5, "sha256": "0" * 64})
    ping = http.post(f"{endpoint.headers['Location']}/ping")
    nightly = {"name": "n", "cron": "0 2 * * *", "job": {"dataset_id": job["dataset_id"], "budget": {"count": 2}}}
    schedule = http.post("/v1/schedules", json=nightly)
    made = (evaluation, endpoint, link, upload, ping, schedule)
    assert [answer.status_code for answer in made] == [202, 201, 201, 201, 202, 201], [one.text for one in made]
    named = {
        "job_id": job["id"],
        "dataset_id": job["dataset_id"],
        "gradient_set_id": job["gradient_set_id"],
        "evaluation_id": evaluation.json()["id"],
        "endpoint_id": endpoint.json()["id"],
        "upload_id": upload.json()["id"],
        "delivery_id": ping.json()["id"],
        "token": link.json()["url"].split("/")[-2],
        "name": "selected.jsonl",
        "row": 0,
        "slug": "not-found",
        "schedule_id": schedule.json()["id"],
    }
    promised = set()
    for template, operations in service.app.openapi()["paths"].items():
        if "get" not in operations:
            continue
        path = template.format(**named)
        first = http.get(path)
        tag = first.headers.get("ETag")
        responses = operations["get"]["responses"]
        promises = "ETag" in responses["200"].get("headers", {})
        assert (first.status_code, tag is not None, "304" in responses) == (200, promises, promises), path
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        for name in ("content-type", "content-length"):
            assert head.headers[name] == first.headers[name], f"{path} {name}"
        if tag is None:
            continue
        promised.add(template)
        for asked in (http.get, http.head):
            for known in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
                same = asked(path, headers={"If-None-Match": known})
                assert (same.status_code, same.headers["ETag"], same.content) == (304, tag, b""), f"{path} {known}"
            other = asked(path, headers={"If-None-Match": 'W/"other"'})
            assert (other.status_code, other.headers["ETag"]) == (200, tag), path
            assert other.content == (first.content if asked == http.get else b""), path
    assert len(promised) == 7, promised
    missing = http.head("/v1/jobs/job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC")
    assert (missing.status_code, missing.content) == (404, b"")
