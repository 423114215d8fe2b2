"""Whatever the contract says is sent with an ETag is, and is not sent again to whoever has it."""

from __future__ import annotations

import re

from tests.fixtures.service import InProcessService, jsonl, sums


def test_every_route_that_promises_an_etag_keeps_to_it(service: InProcessService) -> None:
    http = service.http
    job = service.submit(service.push(jsonl(sums(10)))["id"], exclude=[0, 1, 2])
    service.drain()
    evaluation = http.post("/v1/evaluations", json={"job_id": job["id"], "seeds": 2})
    endpoint = http.post("/v1/webhook-endpoints", json={"url": "https://93.184.215.14/told"})
    link = http.post(f"/v1/jobs/{job['id']}/files/selected.jsonl/links", json={})
    assert [made.status_code for made in (evaluation, endpoint, link)] == [202, 201, 201], (evaluation.text, link.text)
    named = {
        "job_id": job["id"],
        "dataset_id": job["dataset_id"],
        "gradient_set_id": job["gradient_set_id"],
        "evaluation_id": evaluation.json()["id"],
        "endpoint_id": endpoint.json()["id"],
        "token": link.json()["url"].split("/")[-2],
        "name": "selected.jsonl",
        "slug": "not-found",
    }
    promised = set()
    for template, operations in service.app.openapi()["paths"].items():
        if "get" not in operations or not set(re.findall(r"{(\w+)}", template)) <= named.keys():
            continue
        path = template.format(**named)
        first = http.get(path)
        tag = first.headers.get("ETag")
        responses = operations["get"]["responses"]
        promises = "ETag" in responses["200"].get("headers", {})
        assert (first.status_code, tag is not None, "304" in responses) == (200, promises, promises), path
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
    assert len(promised) == 6, promised
