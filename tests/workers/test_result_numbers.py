"""What a finished job says about its choice beside the pool."""

from __future__ import annotations

import json
from collections import Counter

from tests.fixtures.service import InProcessService, jsonl, sums


def test_a_result_compares_the_choice_with_the_pool_and_with_chance(service: InProcessService) -> None:
    records = [{**record, "domain": "xyz"[i % 3] if i % 5 else "z"} for i, record in enumerate(sums(40))]
    dataset = service.push(jsonl(records))
    job = service.submit(dataset["id"], budget={"count": 9})
    service.drain()
    result = service.job(job["id"])["result"]
    curve = result["random_control"]["curve"]
    assert [size for size, _ in curve] == [1, 2, 4, 9]
    assert curve[-1][1] == result["random_control"]["utility"]
    lengths = result["composition"]["tokens"]
    assert sum(lengths["pool"]) == result["pool"] == 40
    assert sum(lengths["selected"]) == result["selected"] == 9
    groups = result["composition"]["groups"]
    assert groups["column"] == "domain"
    chosen = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl").text.splitlines()
    pool, mine = Counter(r["domain"] for r in records), Counter(json.loads(line)["domain"] for line in chosen)
    assert {g["name"]: (g["pool"], g["selected"]) for g in groups["groups"]} == {
        name: (pool[name], mine[name]) for name in pool
    }


def test_a_column_with_quotas_is_the_one_that_is_counted(service: InProcessService) -> None:
    records = [{"first": "ab"[i % 2], "second": "cd"[i % 2], **record} for i, record in enumerate(sums(12))]
    dataset = service.push(jsonl(records))
    quotas = {"column": "second", "caps": {"c": 1}}
    free = service.submit(dataset["id"])
    bound = service.submit(dataset["id"], selection={"quotas": quotas})
    service.drain()
    assert service.job(free["id"])["result"]["composition"]["groups"]["column"] == "first"
    assert service.job(bound["id"])["result"]["composition"]["groups"] == {
        "column": "second",
        "groups": [{"name": "c", "pool": 6, "selected": 1}, {"name": "d", "pool": 6, "selected": 2}],
    }
